"""The part of a process: sums, comparisons and judgements of several parts are those of one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cryotorch.refinement.hetero.part import ClassPart, Compared, coarse_box
from cryotorch.refinement.runtime.team import Team
from tests.refinement.hetero.test_references import one_hot
from tests.refinement.hetero.test_settings import made


def test_coarse_maps_hold_their_limit() -> None:
    settings = made(limit=11, first_limit=5.9)
    assert coarse_box(settings) == 16 and coarse_box(made(first_limit=11.0)) == 24


def test_two_processes_find_what_one_finds(two_states: Callable) -> None:
    world = two_states(60, snr=2.0)
    settings, noise, share = world.settings, torch.ones(1, 13), one_hot(world.state)
    whole = ClassPart(world.images, 60, 1, settings, Team())
    parts = []
    for rank in (0, 1):
        team = Team(rank, 2)
        team.sum_ = lambda tensor: None  # pyright: ignore[reportAttributeAccessIssue]
        mine = team.part(60, 1)
        parts.append(ClassPart(world.images.of(mine), 60, 1, settings, team))
    for fine in (True, False):
        for part in (whole, *parts):
            part.insert(share, noise, fine)
        for h in (0, 1):
            for k in (0, 1):
                total = sum(part.sums[fine].sums[h][k].weight for part in parts)
                torch.testing.assert_close(total, whole.sums[fine].sums[h][k].weight)
    maps = world.maps.expand(2, 2, 24, 24, 24)
    given = maps, torch.zeros(2, 2, 13), share, noise, True
    one = whole.compare(*given)
    both = Compared.joined([part.compare(*given) for part in parts])
    torch.testing.assert_close(both.evidence, one.evidence)
    torch.testing.assert_close(both.power, one.power)
    assert both.count.tolist() == [60]
    # against the truth, noise of 1 is left
    assert abs(float(one.power[0].sum()) / world.images.power.numel() - 1) < 0.05
    rows = torch.tensor([3, 40, 59])
    for free in (True, False):
        judged = [part.judge(world.maps, noise, rows, True, free) for part in (whole, *parts)]
        torch.testing.assert_close(torch.cat(judged[1:]), judged[0])
