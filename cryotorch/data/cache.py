"""A cache of prepared images on a fast disk, shared by all jobs that want the same particles at the same box."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from cryotorch.data.cache_folder import CACHE_PREFIX, CacheFolder
from cryotorch.data.mrc import HEADER_BYTES, stack_header
from cryotorch.errors import InputError

LAYOUT = 4  # counted up whenever the files or the prepared images change, so that old caches are left alone
MARK_BYTES = 16  # bytes that are known of each image
PAGE = 4096  # the first image begins at a multiple of it
BYTES_AT_ONCE = 1 << 21  # bytes checked and converted together: they stay in the processor's cache
logger = logging.getLogger(__name__)


def content_key(
    stacks: Sequence[Path],
    address: np.ndarray,
    box: int,
    size: np.ndarray | float = 1.0,
    dtype: str = "float32",
) -> str:
    """A name for prepared images: it changes with the stacks (path, size, time), the particles, box, pixel sizes or type.

    ``address`` (n, 2) as in ``Particles``; ``size`` (n,): pixel sizes relative to that of the prepared images' file.
    """
    digest = hashlib.sha256(f"{LAYOUT} {box} {dtype} {len(address)}\n".encode())
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
    """n prepared images in ``<folder>/particles_<key>.mrcs``, made once, by whichever job comes first.

    The file is an MRC stack with an extended header that holds a checksum (64 bits), a factor (float32) and a note (int32) for every
    image: an image is what is stored times its factor, for float16 a power of 2 near its root mean square. So no pixel leaves the
    range of float16, whose rounding is off by at most 2^-11 of a pixel, and adds noise of 4e-8 of the image's power.
    Every process checks an image when it first reads it; after a mismatch the whole cache is made again. One file is open, and
    reading is by ``pread``: a memory map would count as memory of the process.

    Args:
        folder: where the cache lies.
        key: from ``content_key``.
        n, box, pixel_size: of the images.
        make: (start, stop) -> images (stop - start, box, box) float32 and notes (stop - start,) int32.
        dtype: "float16" or "float32", as stored.
        block: images made together.

    Attributes:
        notes: (n,) int32, as they came from ``make``.

    Raises:
        InputError: the folder cannot be written or is too small.
    """

    def __init__(
        self,
        folder: CacheFolder,
        key: str,
        n: int,
        box: int,
        pixel_size: float,
        make: Callable[[int, int], tuple[np.ndarray, np.ndarray]],
        dtype: str = "float32",
        block: int = 256,
    ):
        self.path = Path(folder.path) / f"{CACHE_PREFIX}{key}.mrcs"
        self.n, self.box, self.pixel_size = n, box, pixel_size
        self._folder, self._make, self._block = folder, make, block
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._image_bytes = box**2 * self._dtype.itemsize
        self._offset = -(-(HEADER_BYTES + MARK_BYTES * n) // PAGE) * PAGE
        self._handle: int | None = None
        self._lock = threading.Lock()  # two threads must not mend it at once
        self._open()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_handle": None, "_lock": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, which may then be removed to make room; reading opens it again."""
        handle, self._handle = getattr(self, "_handle", None), None
        if handle is not None:
            os.close(handle)

    def read(self, index: np.ndarray) -> torch.Tensor:
        """Images (b, box, box) float32 of rows ``index`` (b,).

        Raises InputError where the cache is damaged again and again, IndexError for a row that it does not have.
        """
        index = np.asarray(index, dtype=np.int64)
        if not len(index):
            return torch.empty(0, self.box, self.box)
        if not 0 <= index.min() <= index.max() < self.n:
            raise IndexError(f"The cache {self.path} has {self.n} images, not those asked for.")
        with self._lock:
            if self._handle is None:
                self._open()
            for _ in range(3):
                images = self._read(index)
                if images is not None:
                    return images
                logger.warning("The cache %s is damaged: it is made again.", self.path)
                damaged, self._handle = self._handle, None
                try:
                    self._open(damaged)
                finally:
                    if damaged is not None:
                        os.close(damaged)
        raise InputError(
            f"The cache {self.path} is damaged again and again: choose another cache_dir."
        )

    def _read(self, index: np.ndarray) -> torch.Tensor | None:
        """None if an image is not what was written."""
        images = torch.empty(len(index), self.box, self.box)
        if self._dtype == np.float32:
            raw = images.numpy()
            return images if self._fill(raw, index) and self._sound(raw, index) else None
        step = max(1, BYTES_AT_ONCE // self._image_bytes)
        raw = np.empty((step, self.box, self.box), self._dtype)
        half = torch.from_numpy(raw)
        for start in range(0, len(index), step):
            rows, part = index[start : start + step], images[start : start + step]
            n = len(rows)
            if not (self._fill(raw[:n], rows) and self._sound(raw[:n], rows)):
                return None
            part.copy_(half[:n])
            factor = self._factor[rows]
            if (factor != 1).any():
                part.mul_(torch.from_numpy(factor)[:, None, None])
        return images

    def _sound(self, raw: np.ndarray, rows: np.ndarray) -> bool:
        """Whether stored images match their checksums; each is looked at once."""
        new = np.flatnonzero(~self._seen[rows])
        step = max(1, BYTES_AT_ONCE // self._image_bytes)
        for start in range(0, len(new), step):
            at = new[start : start + step]
            fresh = rows[at]
            about = fresh, self._factor[fresh], self.notes[fresh]
            if (_checksums(raw[at], *about) != self._sums[fresh]).any():
                return False
            self._seen[fresh] = True
        return True

    def _fill(self, raw: np.ndarray, rows: np.ndarray) -> bool:
        """Read images that follow each other together; False if the file ends before."""
        size, view = self._image_bytes, memoryview(raw).cast("B")
        cuts = (np.flatnonzero(rows[1:] != rows[:-1] + 1) + 1).tolist()
        starts, stops = [0, *cuts], [*cuts, len(rows)]
        places = (self._offset + rows[starts] * size).tolist()
        handle = self._handle
        assert handle is not None
        for start, stop, place in zip(starts, stops, places, strict=True):
            part = view[start * size : stop * size]
            while part:
                try:
                    got = os.preadv(handle, [part], place)
                except OSError:
                    return False
                if got == 0:
                    return False
                part, place = part[got:], place + got
        return True

    def _open(self, damaged: int | None = None) -> None:
        size = self._offset + self.n * self._image_bytes
        handle = self._folder.open(self.path.name, size, self._write, damaged)
        raw = os.pread(handle, MARK_BYTES * self.n, HEADER_BYTES)
        if len(raw) < MARK_BYTES * self.n:
            raw = bytes(MARK_BYTES * self.n)  # no image will match
        self._sums = np.frombuffer(raw, "<u8", self.n)
        self._factor = np.frombuffer(raw, "<f4", self.n, 8 * self.n)
        self.notes = np.frombuffer(raw, "<i4", self.n, 12 * self.n)
        self._seen = np.zeros(self.n, bool)
        self._handle = handle

    def _write(self, handle: int) -> None:
        logger.info("Caching %d images of %d pixels in %s.", self.n, self.box, self.path)
        started = time.perf_counter()
        sums, factors = np.empty(self.n, "<u8"), np.empty(self.n, "<f4")
        notes = np.empty(self.n, "<i4")
        kind, extended = self._dtype.newbyteorder("=").name, self._offset - HEADER_BYTES
        with open(handle, "r+b", closefd=False) as file:
            file.write(stack_header(self.n, self.box, self.pixel_size, kind, extended))
            file.seek(self._offset)
            for start in range(0, self.n, self._block):
                rows = np.arange(start, min(start + self._block, self.n))
                images, notes[rows] = self._make(start, start + len(rows))
                factor = _power_of_2(images) if kind == "float16" else np.ones(len(rows), "<f4")
                stored = (images / factor[:, None, None]).astype(self._dtype)
                factors[rows] = factor
                sums[rows] = _checksums(stored, rows, factor, notes[rows])
                file.write(stored.data)
            file.seek(HEADER_BYTES)
            file.write(sums.tobytes() + factors.tobytes() + notes.tobytes())
        seconds = time.perf_counter() - started
        logger.info("Cached %d images in %.1f s.", self.n, seconds)


def _power_of_2(images: np.ndarray) -> np.ndarray:
    """The power of 2 (b,) nearest the root mean square of each image, within the normal numbers of float32."""
    power = np.square(images, dtype=np.float64).mean((1, 2))
    exponent = 0.5 * np.log2(np.maximum(power, np.finfo(np.float64).tiny))
    return np.exp2(exponent.round().clip(-100, 100)).astype(np.float32)


def _checksums(
    stored: np.ndarray, rows: np.ndarray, factor: np.ndarray, note: np.ndarray
) -> np.ndarray:
    """Checksums (b,) of stored images (b, d, d), their places, factors and notes: sum of words times odd weights, modulo 2^64.

    It tells any change of one word, words that changed places, and pages of zeros; at four times the speed of a CRC.
    """
    words = stored.reshape(len(stored), -1).view("<u8")
    weights = 2 * np.arange(words.shape[1], dtype=np.uint64) + 1
    sums = np.einsum("ij,j->i", words, weights)
    golden = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads small numbers
    about = (rows.astype(np.uint64) << np.uint64(32)) + factor.view("<u4")
    about = about * golden + note.view("<u4")
    return sums + (about + np.uint64(1)) * golden
