"""A cache of prepared images on a fast disk, shared by all jobs that want the same particles at the same box."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cryotorch.data.files import replace_file
from cryotorch.data.mrc import HEADER_BYTES, write_stack
from cryotorch.data.stacks import Stacks
from cryotorch.errors import InputError

LAYOUT = 1  # counted up whenever prepared images change, so that old caches are left alone
logger = logging.getLogger(__name__)


def content_key(
    stacks: Sequence[Path], address: np.ndarray, box: int, size: np.ndarray | float = 1.0
) -> str:
    """A name for prepared images: it changes with the stacks (path, size, time), the particles, the box or the pixel sizes.

    ``size`` (n,): pixel sizes relative to that of the prepared images' file.
    """
    digest = hashlib.sha256(f"{LAYOUT} {box} {len(address)}\n".encode())
    for path in stacks:
        status = os.stat(path)
        digest.update(
            f"{os.path.realpath(path)}\0{status.st_size} {status.st_mtime_ns}\n".encode(
                "utf-8", "surrogateescape"
            )
        )
    digest.update(np.ascontiguousarray(address, dtype="<i8").tobytes())
    if np.any(size != 1):
        digest.update(np.ascontiguousarray(size, dtype="<f8").tobytes())
    return digest.hexdigest()[:24]


class CachedImages:
    """n prepared images in ``<folder>/particles_<key>.mrcs``, float32, made once.

    Concurrent jobs wait for the first one at a lock file. The stack gets its name when it is complete and counts
    from the moment its checksums (one CRC-32 per block of images, in ``.json`` beside it) are there. Each process
    checks a block when it first reads from it, and a damaged cache is made again.

    Args:
        folder: on a fast disk, made if missing.
        key: from ``content_key``.
        n, box, pixel_size: of the images.
        make: (start, stop) -> images (stop - start, box, box) float32.
        block: images made and checked together.

    Raises:
        InputError: the folder cannot be written or is too full.
    """

    def __init__(
        self,
        folder: str | Path,
        key: str,
        n: int,
        box: int,
        pixel_size: float,
        make: Callable[[int, int], np.ndarray],
        block: int = 256,
    ):
        self.path = Path(folder) / f"particles_{key}.mrcs"
        self.sums_path = self.path.with_suffix(".json")
        self.n, self.box, self.pixel_size = n, box, pixel_size
        self._make, self._block = make, block
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cache_dir {folder} cannot be made ({error.strerror}): choose another."
            ) from None
        self._open()

    def read(self, index: np.ndarray) -> np.ndarray:
        """Images (b, box, box) float32 of rows ``index`` (b,)."""
        index = np.asarray(index, dtype=np.int64)
        self._verify(np.unique(index // self._block))
        return self._stack.read(np.stack([np.zeros_like(index), index], 1))

    def _open(self, damaged: bool = False) -> None:
        with _locked(self.path.with_suffix(".lock")):
            if damaged or not self._complete():
                self._build()
            written = json.loads(self.sums_path.read_text())
            self._block, self._sums = written["block"], written["crc32"]
            self._stack = Stacks([self.path])
        self._verified: set[int] = set()

    def _complete(self) -> bool:
        """Whether stack and checksums are there and belong together, as far as their sizes tell."""
        try:
            written = json.loads(self.sums_path.read_text())
            blocks = -(-self.n // written["block"])
            size = self.path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            return False
        fits = size == self._bytes() and written.get("n") == self.n
        return fits and len(written.get("crc32", ())) == blocks

    def _bytes(self) -> int:
        return HEADER_BYTES + 4 * self.n * self.box**2

    def _build(self) -> None:
        self.sums_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        folder, needed = self.path.parent, self._bytes()
        for left in folder.glob(f".{self.path.name}.*.partial"):  # by a job that was killed
            left.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise InputError(
                f"cache_dir {folder} has {free / 1e9:.1f} GB free, the cache of {self.n} images needs "
                f"{needed / 1e9:.1f} GB: choose another or none."
            )
        logger.info("Caching %d images of %d pixels in %s.", self.n, self.box, self.path)
        sums: list[int] = []

        def blocks() -> Iterator[np.ndarray]:
            for start in range(0, self.n, self._block):
                images = self._make(start, min(start + self._block, self.n))
                sums.append(_checksum(images))
                yield images

        write_stack(self.path, blocks(), self.n, self.box, self.pixel_size)
        with replace_file(self.sums_path) as file:
            file.write(json.dumps({"n": self.n, "block": self._block, "crc32": sums}).encode())

    def _verify(self, blocks: np.ndarray) -> None:
        for attempt in range(3):
            if all(block in self._verified or self._sound(block) for block in blocks.tolist()):
                return
            logger.warning("The cache %s is damaged: it is made again.", self.path)
            # The first time another job may have mended it already: look again at the file of that name.
            self._open(damaged=attempt > 0)
        raise InputError(
            f"The cache {self.path} is damaged again and again: choose another cache_dir."
        )

    def _sound(self, block: int) -> bool:
        rows = np.arange(block * self._block, min((block + 1) * self._block, self.n))
        try:
            images = self._stack.read(np.stack([np.zeros_like(rows), rows], 1))
        except InputError:  # shorter than it was, or not finite
            return False
        if _checksum(images) != self._sums[block]:
            return False
        self._verified.add(block)
        return True


def _checksum(images: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(images, dtype="<f4").data)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock; the system frees it when the process dies, so no lock outlives its job."""
    try:
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info(
                    "Waiting for another job to finish the cache %s.", path.with_suffix(".mrcs")
                )
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise InputError(
            f"cache_dir {path.parent} cannot be used ({error.strerror or error}): choose a folder on a local disk."
        ) from None
