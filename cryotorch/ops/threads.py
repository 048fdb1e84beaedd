"""Compiled loops in torch's number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch


def in_threads(part: Callable[[int, int], None], n: int) -> None:
    """Call ``part(start, stop)`` for equal parts of range(n), one for each thread."""
    threads = max(1, min(torch.get_num_threads(), n))
    if threads == 1:
        part(0, n)
        return
    edges = [n * i // threads for i in range(threads + 1)]
    list(_threads(threads).map(part, edges[:-1], edges[1:]))


def in_threads_by_one(part: Callable[[int], None], items: Iterable[int]) -> None:
    """Call ``part`` for every item; a thread takes the next when it has done one, as items are unequal."""
    list(_threads(torch.get_num_threads()).map(part, items))


@lru_cache
def _threads(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n)
