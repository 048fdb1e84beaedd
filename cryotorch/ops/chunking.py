"""Work in parts that fit the memory of a device."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cryotorch.errors import out_of_memory


def in_parts(n: int, most: int, work: Callable[[slice], None]) -> int:
    """``work(rows)`` for consecutive rows of 0 .. n - 1, at most ``most`` at once; returns how many it ended up with.

    A part that the device's memory does not hold is tried again in halves, and so are those that follow. ``work`` must leave
    nothing behind when it raises torch.OutOfMemoryError, or the host's MemoryError.

    Raises:
        MemoryError: it does not hold a single row; the rows before are done.
    """
    start = 0
    while start < n:
        stop = min(n, start + most)
        if _fits(work, slice(start, stop)):
            start = stop
        elif stop - start == 1:
            raise MemoryError("The memory of the device does not hold a single row.")
        else:
            most = (stop - start + 1) // 2
            torch.cuda.empty_cache()
    return most


def _fits(work: Callable[[slice], None], rows: slice) -> bool:
    # In a function of its own: what the error holds on to, the arrays of ``work``, is free when it returns.
    try:
        work(rows)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return False
    return True
