"""Reading the next batch while the current one is worked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class Loader(Sized, Iterable, Protocol):
    """What has a length and gives items, such as a ``DataLoader``."""


class PrefetchLoader:
    """The items of a loader, the next one being fetched by a thread of its own.

    Order and number stay; an error of the loader arrives where its item would. When the iteration is left, by an error or
    Ctrl-C too, the thread ends after the item that it is at.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        items, end = iter(self.loader), object()
        with ThreadPoolExecutor(1, "ahead") as thread:
            coming = thread.submit(next, items, end)
            while (item := coming.result()) is not end:
                coming = thread.submit(next, items, end)
                yield item
