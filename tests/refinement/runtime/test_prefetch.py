from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cryotorch.errors import InputError
from cryotorch.refinement.runtime.prefetch import PrefetchLoader


class Loader:
    """0, 1, 2, ...; ``read[i]`` is set when item i has been."""

    def __init__(self, n: int, broken: int = -1) -> None:
        self.read, self.broken = [threading.Event() for _ in range(n)], broken

    def __len__(self) -> int:
        return len(self.read)

    def __iter__(self) -> Iterator[int]:
        for i, read in enumerate(self.read):
            if i == self.broken:
                raise InputError(f"Image {i} is lost.")
            read.set()
            yield i

    @property
    def count(self) -> int:
        return sum(read.is_set() for read in self.read)


def running() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("ahead")]


@pytest.mark.parametrize("n", [0, 1, 5])
def test_all_items_in_order_again_and_again(n):
    ahead = PrefetchLoader(Loader(n))
    assert len(ahead) == n
    for _ in range(2):
        assert list(ahead) == list(range(n))
    assert not running()


def test_the_next_item_and_no_more_is_read_while_one_is_in_use():
    loader = Loader(5)
    items = iter(PrefetchLoader(loader))
    assert next(items) == 0
    assert loader.read[1].wait(10)
    assert not loader.read[2].wait(0.05)
    assert next(items) == 1
    assert loader.read[2].wait(10)
    items.close()
    assert not running() and loader.count == 3


def test_an_error_arrives_in_its_place():
    seen = []
    with pytest.raises(InputError, match="Image 3 is lost"):
        for item in PrefetchLoader(Loader(5, broken=3)):
            seen.append(item)
    assert seen == [0, 1, 2] and not running()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_work_ends_the_thread(error):
    loader = Loader(9)

    def work() -> None:
        for item in PrefetchLoader(loader):
            if item == 2:
                raise error

    with pytest.raises(error):
        work()
    assert not running() and loader.count <= 4
