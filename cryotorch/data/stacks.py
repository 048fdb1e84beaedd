"""Image stacks read by address: many files, few open handles, no more memory than the images asked for."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from cryotorch.data.mrc import HEADER_BYTES, Header, parse_header
from cryotorch.errors import InputError

MAX_HANDLES = (
    64  # far below the usual limit of 1024 per process; a batch in file order needs one or two
)


class Stacks:
    """MRC stacks of square images. Headers are read once, here; images with ``pread`` when asked for.

    Reading by ``pread`` instead of a memory map keeps a large stack out of the process's memory and is safe in
    forked workers. Objects can be pickled.

    Attributes:
        paths: of the files.
        boxes: (number of files,) int64, pixels per edge.
        counts: (number of files,) int64, images in each.
        pixel_sizes: Å of each file, None where the header has 0 or the meaningless 1.0.

    Raises:
        InputError: a file is missing, empty, truncated, not square or of an odd box.
    """

    def __init__(self, paths: Sequence[str | Path]):
        self.paths = [Path(path) for path in paths]
        if not self.paths:
            raise InputError("There is no image stack to read: name at least one.")
        self._headers = [_checked_header(path) for path in self.paths]
        self.boxes = np.array([header.shape[2] for header in self._headers], dtype=np.int64)
        self.counts = np.array([header.shape[0] for header in self._headers], dtype=np.int64)
        self.pixel_sizes = [_meant(header.pixel_size[0]) for header in self._headers]
        self._handles: OrderedDict[int, int] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_lock"], state["_handles"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _handles=OrderedDict(), _lock=threading.Lock())

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the handles; reading opens them again."""
        handles = getattr(self, "_handles", {})  # __init__ may have failed before
        while handles:
            os.close(handles.popitem()[1])

    def check(self, address: np.ndarray) -> None:
        """Refuse addresses (b, 2) of stacks or images that do not exist. Raises InputError for the first of them."""
        address = np.asarray(address)
        stack, image = address[:, 0], address[:, 1]
        if ((stack < 0) | (stack >= len(self.paths))).any():
            raise InputError(f"A particle points to stack {stack.max()} of {len(self.paths)}.")
        beyond = np.flatnonzero((image < 0) | (image >= self.counts[stack]))
        if len(beyond):
            which, number = stack[beyond[0]], image[beyond[0]] + 1
            raise InputError(
                f"Image {number} of {self.paths[which]} is asked for, but the stack holds "
                f"{self.counts[which]}: check _rlnImageName."
            )

    def read(self, address: np.ndarray) -> np.ndarray:
        """Images (b, d, d) float32 at addresses (b, 2) int64: stack number, 0-based image number.

        Images that follow each other in a file are read together, and one that is asked for twice is read once. All must be of
        one box.

        Raises:
            InputError: an address beyond the stack, a file that became shorter, most pixels not finite.
            ValueError: images of several boxes.
        """
        address = np.asarray(address, dtype=np.int64).reshape(-1, 2)
        self.check(address)
        boxes = np.unique(self.boxes[address[:, 0] if len(address) else [0]])
        if len(boxes) > 1:
            raise ValueError(f"Images of different boxes are asked for together: {boxes.tolist()}.")
        once, again = np.unique(address, axis=0, return_inverse=True)
        if len(once) < len(address):
            return self.read(once)[again.ravel()]
        box = int(boxes[0])
        images = torch.empty(len(address), box, box)
        with self._lock:
            for stack, first, rows in _runs(address):
                raw = self._read_run(stack, first, len(rows))
                place = (
                    rows
                    if len(rows) > 1 and (np.diff(rows) != 1).any()
                    else slice(rows[0], rows[-1] + 1)
                )
                # torch converts float16 twice as fast as NumPy
                images[place] = torch.from_numpy(raw).float()
        self._check_finite(images.numpy(), address)
        return images.numpy()

    def digest(self, address: np.ndarray) -> str:
        """A name for the images at addresses (b, 2) as stored now, also where files were replaced, and for all stacks' shapes.

        Raises:
            InputError: a file is missing or became shorter.
        """
        found = hashlib.sha256(np.stack([self.boxes, self.counts]).tobytes())
        with self._lock:
            self.close()  # a handle would still lead to a file that was replaced
            for stack, image in np.asarray(address).tolist():
                found.update(self._read_run(stack, image, 1).tobytes())
        return found.hexdigest()[:24]

    def _read_run(self, stack: int, first: int, n: int) -> np.ndarray:
        header = self._headers[stack]
        raw = np.empty((n, *header.shape[1:]), header.dtype)
        view = memoryview(raw).cast("B")
        offset = header.offset + first * header.image_bytes
        while view:
            handle = self._handle(stack)
            try:
                got = os.preadv(handle, [view], offset)
            except OSError as error:  # a lost disk
                raise self._lost(stack, error) from None
            if got == 0:
                whole = (raw.nbytes - len(view)) // header.image_bytes
                raise InputError(
                    f"{self.paths[stack]} ends before image {first + whole + 1}: it became shorter while in use, "
                    "put the whole file back and start again."
                )
            view, offset = view[got:], offset + got
        native = header.dtype.newbyteorder("=")
        if native == np.uint16:  # torch computes little with unsigned 16 bit
            return raw.astype(np.float32)
        return raw if header.dtype == native else raw.astype(native)

    def _handle(self, stack: int) -> int:
        if stack in self._handles:
            self._handles.move_to_end(stack)
            return self._handles[stack]
        while len(self._handles) >= MAX_HANDLES:
            os.close(self._handles.popitem(last=False)[1])
        try:
            self._handles[stack] = os.open(
                self.paths[stack], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
            )
        except OSError as error:
            raise self._lost(stack, error) from None
        return self._handles[stack]

    def _lost(self, stack: int, error: OSError) -> InputError:
        return InputError(
            f"{self.paths[stack]} cannot be read any more ({error.strerror}): put it back and start again."
        )

    def _check_finite(self, images: np.ndarray, address: np.ndarray) -> None:
        """A few pixels are mended by whoever uses the image; of most of them nothing is left to mend."""
        finite = np.isfinite(images)
        if finite.all():
            return
        lost = np.count_nonzero(~finite, axis=(1, 2))
        bad = np.flatnonzero(lost > images[0].size / 2)
        if len(bad):
            stack, image = address[bad[0]]
            raise InputError(
                f"Image {image + 1} of {self.paths[stack]} has {lost[bad[0]]} of {images[0].size} pixels that are not "
                "finite (NaN or infinite): remove it from the STAR file."
            )


def _checked_header(path: Path) -> Header:
    try:
        with open(path, "rb") as file:
            raw = file.read(HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise InputError(f"Image stack {path} does not exist: check _rlnImageName.") from None
    except OSError as error:
        raise InputError(f"Image stack {path} cannot be read ({error.strerror}).") from None
    if raw[:2] == b"\x1f\x8b" or raw[:3] == b"BZh":
        raise InputError(
            f"Image stack {path} is compressed: unpack it, images are read in any order."
        )
    header = parse_header(raw, path)
    sections, rows, columns = header.shape
    if header.axes != (3, 2, 1):
        raise InputError(
            f"Image stack {path} has axis order {header.axes[::-1]}: rewrite it with 1, 2, 3."
        )
    if rows != columns:
        raise InputError(f"Images of {path} are {columns} x {rows} pixels: extract square ones.")
    if columns % 2:
        raise InputError(f"The box of {path} must be even, got {columns}: pad to {columns + 1}.")
    whole = max(size - header.offset, 0) // header.image_bytes
    if whole < sections:
        raise InputError(
            f"Image stack {path} is truncated: image {whole + 1} of the {sections} in its header is not complete; "
            "copy it again."
        )
    return header


def _meant(pixel_size: float) -> float | None:
    """Some programs write 0, others 1.0 when they do not know."""
    return None if pixel_size == 0 or abs(pixel_size - 1) < 1e-6 else pixel_size


def _runs(address: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Stretches of consecutive images: stack, first image, and the rows of ``address`` that ask for them."""
    if not len(address):
        return
    order = np.lexsort((address[:, 1], address[:, 0]))
    stack, image = address[order].T
    breaks = np.flatnonzero((np.diff(stack) != 0) | (np.diff(image) != 1)) + 1
    for rows in np.split(order, breaks):
        yield int(address[rows[0], 0]), int(address[rows[0], 1]), rows
