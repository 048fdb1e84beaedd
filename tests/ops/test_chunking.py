"""Work in parts: everything once, in order, whatever does not fit at first."""

from __future__ import annotations

import weakref

import pytest
import torch

from cryotorch.ops.chunking import in_parts


def device_of(room: int, done: list[int]):
    """Work that runs out of memory on more than ``room`` rows."""

    def work(rows: slice) -> None:
        if rows.stop - rows.start > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(range(rows.start, rows.stop))

    return work


@pytest.mark.parametrize(
    ("n", "most", "room", "fitted"), [(13, 5, 9, 5), (13, 13, 4, 4), (7, 7, 1, 1)]
)
def test_every_row_once_in_order(n: int, most: int, room: int, fitted: int) -> None:
    done: list[int] = []
    assert in_parts(n, most, device_of(room, done)) == fitted
    assert done == list(range(n))


def test_what_follows_stays_small() -> None:
    sizes: list[int] = []

    def work(rows: slice) -> None:
        sizes.append(rows.stop - rows.start)
        if len(sizes) == 1:
            raise torch.OutOfMemoryError

    assert in_parts(8, 4, work) == 2
    assert sizes == [4, 2, 2, 2, 2]


def test_not_even_one_row() -> None:
    with pytest.raises(MemoryError, match="single row"):
        in_parts(4, 4, device_of(0, []))


def test_other_errors_pass() -> None:
    def work(_: slice) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        in_parts(4, 4, work)


def test_nothing_of_a_failed_part_is_kept_alive() -> None:
    """The arrays of the failed attempt must be free before the next one."""
    seen: list[weakref.ref] = []

    def work(rows: slice) -> None:
        assert all(ref() is None for ref in seen)
        array = torch.ones(rows.stop - rows.start)
        seen.append(weakref.ref(array))
        if len(array) > 1:
            raise torch.OutOfMemoryError

    in_parts(4, 4, work)
    assert len(seen) == 2 + 4
