"""Starts in rounds: whoever makes them, and kept ones are not made again."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cryotorch.ops.geometry.symmetry import point_group, symmetry_correlation
from cryotorch.refinement.ab_initio.judge import radial_mean
from cryotorch.refinement.ab_initio.trials import (
    Imposed,
    Trial,
    TrialPart,
    Trials,
    split,
    with_random_detail,
)
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team


def made_by(world, teams: list[Team], most: int, imposed: Imposed | None = None):
    """The starts of a team, by their number, and all that was heard of them."""
    told: list[tuple[str, float]] = []
    for team in teams:
        heard = told if team.rank == 0 else []
        sets = split(world.images, world.settings)
        TrialPart(sets, world.settings, team, lambda *said, heard=heard: heard.append(said))
    return Trials(teams[0], Kept(), most, imposed), told


def same(one: Trial, other: Trial) -> bool:
    return torch.equal(one.soft.maps.volumes, other.soft.maps.volumes) and torch.equal(
        one.judgement.evidence, other.judgement.evidence
    )


def test_starts_are_those_of_one_process(begin: Callable, teams: Callable) -> None:
    """Three starts of two processes, in two rounds: bit by bit, at the temperature of the first."""
    world = begin(120, snr=1.0, soft_steps=3)
    alone, told = made_by(world, [Team()], 3)
    several, _ = made_by(world, teams(2), 3)
    first = [alone(number) for number in range(3)]
    assert told[-1] == ("starts", 1.0) and [done for _, done in told] == sorted(
        done for _, done in told
    )
    again = [several(number) for number in range(3)]
    assert all(map(same, first, again))
    assert not same(first[0], first[1]) and not same(first[1], first[2])


def test_kept_starts_are_not_made_again(begin: Callable) -> None:
    world = begin(120, snr=1.0, soft_steps=2)
    alone, told = made_by(world, [Team()], 2)
    first = alone(0)
    goes_on, told = made_by(world, [Team()], 2)
    goes_on.kept.values.update(alone.kept.values)
    assert same(goes_on(0), first) and told == []
    goes_on(1)
    assert told and list(goes_on.kept.values) == ["starts/0", "starts/1"]
    assert same(goes_on(1), alone(1))


def test_starts_with_the_symmetry(begin: Callable, teams: Callable) -> None:
    """From the maps that are shown, and from balls with random detail that has it."""
    group = point_group("D2")
    world = begin(120, snr=1.0, soft_steps=3, group=group, symmetry="D2")
    start = made_by(world, [Team()], 1)[0](0).soft
    sphere = split(world.images, world.settings).sphere
    detailed = with_random_detail(start, world.settings, 1, sphere)
    volume = detailed.maps.volumes[0]
    assert float(symmetry_correlation(volume - radial_mean(volume), group).min()) > 0.9
    imposed = Imposed(start, shown=True)
    alone, told = made_by(world, [Team()], 2, imposed)
    several, _ = made_by(world, teams(3), 2, imposed)
    assert all(same(alone(number), several(number)) for number in (0, 1))
    assert {stage for stage, _ in told} == {"symmetry"} and told[-1] == ("symmetry", 1.0)
    assert float(symmetry_correlation(alone(1).soft.maps.volumes[0], group).min()) > 0.9
    hidden = made_by(world, [Team()], 1, Imposed(start, shown=False))[0]
    assert not same(hidden(0), alone(0)) and set(alone.kept.values) == {"symmetry/0", "symmetry/1"}
