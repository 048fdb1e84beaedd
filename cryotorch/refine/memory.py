"""What a CUDA device has room for: images that stay there, a batch, or a part of one when that proves too much."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from cryotorch.errors import InputError
from cryotorch.ops.parts import in_parts
from cryotorch.particles import Batch

IMAGES = 2  # images stay on a device when they take at most one part in so many of its free memory
WORK = 4  # and so does the work on a batch
BYTES_PER_PIXEL = 256  # of the arrays that an image of a batch passes through
LEAST, MOST = 16, 512  # images; more at once gain nothing
USUAL = 2**34  # bytes that a CUDA device may be expected to have


def free_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that nobody uses; what torch keeps for later counts as free."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def images_stay(images: int, box: int, free: int) -> bool:
    """Whether so many float32 images should be kept on a device with ``free`` bytes."""
    return 4 * images * box**2 <= free // IMAGES


def images_at_once(box: int, free: int) -> int:
    """Images per batch on a CUDA device with ``free`` bytes; where it proves too many ``Portions`` mends it."""
    return max(LEAST, min(MOST, free // WORK // (BYTES_PER_PIXEL * box**2)))


class Portions:
    """As much of every batch at once as there was memory for so far; the first time that it is less, the log tells.

    ``step`` must record all of a batch or, when it raises torch.OutOfMemoryError, nothing.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def __call__(self, step: Callable[[Batch], None], batch: Batch) -> None:
        """``step`` on a batch, in parts where it must be.

        Raises:
            InputError: not even one image fits.
        """
        n = len(batch.index)
        if n == 0:
            return step(batch)
        most = n if self.most is None else min(n, self.most)
        try:
            fitted = in_parts(n, most, lambda rows: step(batch.part(rows)))
        except MemoryError:
            raise InputError(
                f"the memory of the device does not hold one particle of {batch.images.shape[-1]} pixels: close what else "
                "uses it, choose a smaller box_size, or add trainer=cpu"
            ) from None
        if fitted < most:
            if self.most is None:
                logging.getLogger("cryotorch").warning(
                    "The memory of the device does not hold %d particles at once: the work goes on with %d or fewer, the result stays the same",
                    *(n, fitted),
                )
            self.most = fitted
