"""Every item is worked on once, whatever the number of threads, and errors come back."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.threads import in_threads, in_threads_by_one


@pytest.mark.parametrize("n", [1, 5, 20])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_every_item_once(threads: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    found: list[int] = []
    in_threads(lambda start, stop: found.extend(range(start, stop)), n)
    in_threads_by_one(lambda item: found.append(n + item), range(n))
    assert sorted(found) == list(range(2 * n))


def test_nothing_to_do() -> None:
    in_threads(lambda start, stop: None, 0)
    in_threads_by_one(lambda item: None, [])


def test_an_error_of_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads_by_one(lambda item: 1 // item, [1, 0, 1])
