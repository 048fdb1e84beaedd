"""What a CUDA device has room for: images that stay there, a batch, or a part of one when that proves too much."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch

from cryotorch.errors import InputError, out_of_memory
from cryotorch.ops.chunking import in_parts
from cryotorch.particles import Batch
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.state import State

# Images stay on a device when they take at most one part in so many of its free memory.
KEPT_IMAGES_PART = 2
BATCH_PART = 4  # and so does the work on a batch
BYTES_PER_PIXEL = 256  # of the arrays that an image of a batch passes through
MIN_BATCH, MAX_BATCH = 16, 512  # images; more at once gain nothing
USUAL_MEMORY = 2**34  # bytes that a CUDA device may be expected to have


def free_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that nobody uses; what torch keeps for later counts as free."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def images_stay(images: int, box: int, free: int) -> bool:
    """Whether so many float32 images should be kept on a device with ``free`` bytes."""
    return 4 * images * box**2 <= free // KEPT_IMAGES_PART


def images_at_once(box: int, free: int) -> int:
    """Images per batch on a CUDA device with ``free`` bytes; where it proves too many ``AdaptiveBatch`` mends it."""
    return max(MIN_BATCH, min(MAX_BATCH, free // BATCH_PART // (BYTES_PER_PIXEL * box**2)))


@contextmanager
def explain_out_of_memory(box: int, state: State | None = None) -> Iterator[None]:
    """A device, or a host, without memory left, outside of what ``AdaptiveBatch`` and ``RetryWithoutCache`` mend, becomes a sentence.

    Raises:
        InputError: it is too small for such a box; what to do, and that the run can go on where ``state`` has finished iterations.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        cures = "choose a smaller box_size, or a device with more memory by trainer.devices, or add trainer=cpu"
        if state is not None and state.iteration:
            cures = (
                f"add resume=true and trainer=cpu, or a device with more memory by trainer.devices, to go on after iteration "
                f"{state.iteration}, or start anew with a smaller box_size"
            )
        raise InputError(
            f"the memory of the device is too small for particles of {box} pixels: {cures}"
        ) from None


class RetryWithoutCache:
    """Work that needs a device's memory: once more without the images that were kept there, where it proves too little."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def make(self) -> bool:
        """Let go of images kept on the device; False where there are none."""
        if not self.batches.keeps_images:
            return False
        self.batches.keep_on(None)
        torch.cuda.empty_cache()
        logging.getLogger("cryotorch").warning(
            "The memory of the device is full: images stay there no longer and are read in every iteration, the result stays the same"
        )
        return True

    def __call__(
        self, work: Callable[[], None], put_back: Callable[[], None] | None = None
    ) -> None:
        """``work()``, which may run twice: ``put_back`` undoes what a first attempt left."""
        if not self._fits(work) and self.make():
            if put_back is not None:
                put_back()
            work()

    def _fits(self, work: Callable[[], None]) -> bool:
        # In a function of its own: what the error holds on to is free when it returns.
        try:
            work()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or not self.batches.keeps_images:
                raise
            return False
        return True


def snapshot(state: State) -> Callable[[], None]:
    """A function that brings a state back to what it is now; its tensors are replaced, never written to."""
    convergence, history = deepcopy(state.convergence), list(state.history)
    now = dict(vars(state))
    return lambda: vars(state).update(
        now | {"convergence": deepcopy(convergence), "history": list(history)}
    )


class AdaptiveBatch:
    """As much of every batch at once as there was memory for so far; the first time that it is less, the log tells.

    ``step`` must record all of a batch or, when it raises torch.OutOfMemoryError, nothing. Before it gives up it asks
    ``make_room`` for memory, see ``RetryWithoutCache.make``.
    """

    def __init__(self, make_room: Callable[[], bool] = lambda: False) -> None:
        self.batch_size: int | None = None
        self.make_room = make_room

    def __call__(self, step: Callable[[Batch], None], batch: Batch) -> None:
        """``step`` on a batch, in parts where it must be.

        Raises:
            InputError: not even one image fits.
        """
        n = len(batch.index)
        if n == 0:
            return step(batch)
        at_once = n if self.batch_size is None else min(n, self.batch_size)
        done = [0]

        def part(rows: slice) -> None:
            step(batch.part(rows))
            done.append(rows.stop)

        try:
            fitted = in_parts(n, at_once, part)
        except MemoryError:
            if self.make_room():
                return self(step, batch.part(slice(done[-1], n)))
            raise InputError(
                f"the memory of the device does not hold one particle of {batch.images.shape[-1]} pixels: close what else "
                "uses it, choose a smaller box_size, or add trainer=cpu"
            ) from None
        if fitted < at_once:
            if self.batch_size is None:
                logging.getLogger("cryotorch").warning(
                    "The memory of the device does not hold %d particles at once: the work goes on with %d or fewer, the result stays the same",
                    *(n, fitted),
                )
            self.batch_size = fitted


def batch_size(box: int, device: torch.device | None = None, ranks: int = 1) -> int:
    """Images per batch: many for the matrix products, few enough that a batch's work arrays stay within about 1 GiB.

    On a CUDA device they take up to a part of its free memory; with several, which must all plan the same batches, of ``USUAL_MEMORY``.
    """
    if device is not None and device.type == "cuda":
        return images_at_once(box, free_memory(device) if ranks == 1 else USUAL_MEMORY)
    return max(16, min(256, 2**22 // box**2))
