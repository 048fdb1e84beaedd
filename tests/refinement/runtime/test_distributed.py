"""Batches: every particle exactly once, one half set each, as many on every rank."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryotorch.refinement.runtime.distributed import Batches, ShardSampler, plan_batches


def test_thirteen_particles_on_two_ranks() -> None:
    half = torch.tensor([0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0])
    images = torch.arange(13.0)[:, None, None] * torch.ones(13, 4, 4)
    batches = Batches(images, half, batch_size=3)
    assert batches.rows == [[0, 2, 5], [6, 8, 10], [12], [1, 3, 4], [7, 9, 11]]
    shards = [ShardSampler(range(len(batches)), rank, 2) for rank in (0, 1)]
    assert [list(shard) for shard in shards] == [[0, 1, 2], [3, 4, -1]]
    assert [len(shard) for shard in shards] == [3, 3]
    seen = []
    for shard in shards:
        for number in shard:
            batch = batches[number]
            seen += batch.index.tolist()
            assert len(batch.images) == len(batch.index)
            assert (half[batch.index] == batch.half).all()
            assert batch.images[:, 0, 0].tolist() == batch.index.tolist()  # its own images
    assert sorted(seen) == list(range(13))


def test_a_filler_is_empty() -> None:
    batch = Batches(torch.zeros(4, 8, 8), torch.tensor([0, 0, 1, 1]), 2)[-1]
    assert len(batch.index) == 0 and len(batch.images) == 0


@given(
    st.lists(st.sampled_from([0, 1]), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(1, 9),
)
def test_any_set_is_dealt_out_once(half: list[int], size: int, world: int) -> None:
    rows = plan_batches(torch.tensor(half), size)
    assert sorted(row for batch in rows for row in batch) == list(range(len(half)))
    assert all(0 < len(batch) <= size for batch in rows)
    assert all(len({half[row] for row in batch}) == 1 for batch in rows)
    shards = [list(ShardSampler(range(len(rows)), rank, world)) for rank in range(world)]
    assert len({len(shard) for shard in shards}) == 1
    real = [number for shard in shards for number in shard if number >= 0]
    assert real == list(range(len(rows)))
    # half sets change at most once on a rank: its templates are made at most twice
    for shard in shards:
        order = [half[rows[number][0]] for number in shard if number >= 0]
        assert order == sorted(order)


@pytest.mark.parametrize("world", [1, 4])
def test_more_ranks_than_batches_get_fillers_only(world: int) -> None:
    shards = [list(ShardSampler(range(1), rank, world)) for rank in range(world)]
    assert shards == [[0]] + [[-1]] * (world - 1)


@given(st.integers(2, 60), st.integers(1, 5), st.floats(0.01, 1), st.floats(0.01, 1))
def test_larger_shares_hold_smaller_ones(n: int, size: int, share: float, other: float) -> None:
    half, nobody = torch.arange(n) % 2, torch.zeros(n, dtype=torch.bool)
    batches = Batches(None, half, size, seed=3)
    few, many = (batches.share(part, nobody) for part in sorted((share, other)))
    assert set(few) <= set(many) and batches.share(1.0, nobody) == list(range(len(batches)))
    for which in (0, 1):
        mine, taken = (
            [i for i in chosen if half[batches.rows[i][0]] == which]
            for chosen in (range(len(batches)), few)
        )
        assert taken == sorted(taken)
        assert len(taken) == max(1, math.ceil(min(share, other) * len(mine)))


def test_a_share_is_drawn_by_the_seed_and_known_particles_come_first() -> None:
    half = torch.arange(400) % 2
    nobody = torch.zeros(400, dtype=torch.bool)
    drawn = [tuple(Batches(None, half, 5, seed).share(0.25, nobody)) for seed in range(5)]
    assert len(set(drawn)) == 5 and all(len(numbers) == 20 for numbers in drawn)
    batches, known = Batches(None, half, 5), nobody.clone()
    early = batches.share(0.25, nobody)
    for number in early:
        known[batches.rows[number]] = True
    order = batches.share(0.5, known)
    assert order[:10] == early[:10] and order[20:30] == early[10:]
    assert not set(order[10:20] + order[30:]) & set(early)


class Counted:
    """Images that count how often they are read."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images, self.reads = images, 0

    def __getitem__(self, rows: list[int]) -> torch.Tensor:
        self.reads += 1
        return self.images[rows]


def test_batches_that_stay_are_read_once() -> None:
    images = Counted(torch.randn(10, 4, 4))
    batches = Batches(images, torch.arange(10) % 2, 3)
    before = [batches[number] for number in range(4)]
    batches.keep_on(torch.device("cpu"))
    for _ in range(3):
        for number in range(4):
            batch = batches[number]
            assert torch.equal(batch.images, before[number].images)
            assert torch.equal(batch.index, before[number].index)
            assert batch.half == before[number].half
    assert images.reads == 4 + 4 and len(batches[-1].index) == 0
    batches.let_go([1, 3])
    assert batches[1].index.tolist() == batches.rows[1] and images.reads == 4 + 4
    assert batches[0].index.tolist() == batches.rows[0] and images.reads == 4 + 5
    batches.keep_on(None)
    assert torch.equal(batches[2].images, before[2].images) and images.reads == 10


def test_what_does_not_fit_is_read_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    images, moved = Counted(torch.randn(10, 4, 4)), []

    def to(batch, device, non_blocking=False):
        moved.append(device)
        if len(moved) > 2:
            raise torch.OutOfMemoryError
        return batch

    monkeypatch.setattr("cryotorch.particles.Batch.to", to)
    batches = Batches(images, torch.arange(10) % 2, 3)
    batches.keep_on(torch.device("cpu"))
    for _ in range(2):
        seen = [batches[number].index.tolist() for number in range(4)]
    assert seen == batches.rows and images.reads == 2 + 2 * 2 and len(moved) == 3
