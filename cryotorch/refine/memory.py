"""A batch that does not fit the memory of a CUDA device is worked on in parts."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cryotorch.errors import InputError
from cryotorch.ops.parts import in_parts
from cryotorch.particles import Batch


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
