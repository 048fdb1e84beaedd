"""Processes at the parts of a task: all of it is done once, and rank 0 gets what each has made."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import timedelta

import pytest
import torch
from torch import Tensor

from cryotorch.refinement.runtime.team import Team, on


@dataclass(frozen=True)
class Part:
    rows: Tensor
    total: Tensor


@pytest.mark.parametrize(("n", "step"), [(0, 1), (1, 2), (5, 2), (100, 2), (101, 7), (1000, 1)])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_every_row_is_dealt_out_once(n: int, step: int, world: int) -> None:
    parts = [Team(rank, world).part(n, step) for rank in range(world)]
    rows = [list(range(n))[part] for part in parts]
    assert [row for some in rows for row in some] == list(range(n))
    assert all(part.start % step == 0 for part, some in zip(parts, rows, strict=True) if some)
    assert max(map(len, rows)) - n / world <= step


def test_tensors_move_wherever_they_are() -> None:
    value = {"a": [Part(torch.ones(1), torch.zeros(1))], "b": (torch.ones(1), "text", None)}
    moved = on(value, "meta")
    assert moved["a"][0].rows.is_meta and moved["b"][0].is_meta and moved["b"][1:] == ("text", None)
    assert type(moved["a"][0]) is Part and not value["a"][0].rows.is_meta


def take_part(rank: int, port: int) -> None:
    """What a process of the test does."""
    meet = dict(init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=60), **meet)
    team = Team(rank, 2)

    def double(values: Tensor, more: dict[str, float]) -> Part:
        mine = values[team.part(len(values), 1)]
        total = mine.sum()[None] * more["times"]
        team.sum_(total)
        return Part(mine * more["times"], total)

    team.tasks["double"] = double
    if rank > 0:
        team.serve()
    else:
        for times in (2.0, 3.0):
            made = team.ask("double", torch.arange(5.0), {"times": times})
            assert [len(one.rows) for one in made] == [3, 2]
            assert torch.equal(torch.cat([one.rows for one in made]), times * torch.arange(5.0))
            assert all(one.total.tolist() == [10 * times] for one in made)
        team.dismiss()
    torch.distributed.destroy_process_group()


def test_two_processes() -> None:
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    # it raises what one of them raised
    torch.multiprocessing.spawn(take_part, (port,), nprocs=2)
