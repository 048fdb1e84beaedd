"""Several maps from one or several: classes, poses and verdict against the truth, and the same on several processes and after a stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.hetero.pipeline import Refined, in_one_frame, refine, take_part
from cryotorch.refinement.hetero.refine import SearchPass
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team


def made(world: Any, team: Team | None = None, kept: Kept | None = None) -> Refined:
    with torch.no_grad():
        parts = take_part(world.task, world.settings, team or Team(), lambda images: None)
        about = lambda stage, done: None, kept or Kept()
        return refine(world.task, world.settings, parts, *about)


def test_one_map_is_divided_into_the_states(states: Callable) -> None:
    world = states()
    found = made(world)
    best = found.share.argmax(1)
    right = float((best == world.state).double().mean())
    assert max(right, 1 - right) > 0.9
    angle = torch.rad2deg(rotation_angle(found.found.rotation, world.rotation))
    assert float(angle.median()) < 4
    assert found.verdict is not None and found.verdict.seen
    order = [0, 1] if right > 0.5 else [1, 0]
    for k, truth in zip(order, world.maps, strict=True):
        curve = shell_correlation(found.halves.joint[k], truth)
        assert float(curve[1:6].min()) > 0.8


def test_images_of_one_map_show_no_second_state(states: Callable) -> None:
    found = made(states(part=0.0))
    assert found.verdict is not None and not found.verdict.seen


def test_maps_that_are_given_are_kept_apart_and_junk_is_found(states: Callable) -> None:
    world = states(maps=2, junk=40)
    found = made(world)
    best = found.share.argmax(1)
    assert float((best[:40] == 2).double().mean()) > 0.9
    assert float((best[40:] == 2).double().mean()) < 0.05
    assert float((best == world.state)[40:].double().mean()) > 0.9
    torch.testing.assert_close(found.share.sum(1), torch.ones(300))


@pytest.mark.slow
def test_two_processes_find_the_same(states: Callable, teams: Callable) -> None:
    alone = made(states(n=120))
    world = states(n=120)
    first, second = teams(2)
    take_part(world.task, world.settings, second, lambda images: None)
    both = made(world, first)
    assert float((alone.share - both.share).abs().median()) < 1e-3


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_it_would_have(states: Callable) -> None:
    world = states(n=120)
    kept, values = Kept(), []
    kept.changed = lambda name, value: values.append(dict(kept.values))
    whole = made(world, kept=kept)
    for at in (1, len(values) // 2, len(values) - 1):
        again = made(states(n=120), kept=Kept(values[at]))
        assert torch.equal(again.share, whole.share)


def test_maps_in_one_frame_are_told_from_others(states: Callable) -> None:
    both = states(n=4).maps
    assert in_one_frame(both)
    assert not in_one_frame(torch.stack([both[0], both[0].flip(0).transpose(1, 2)]))


def test_a_pass_has_classes_without_junk(states: Callable) -> None:
    world = states(n=40, maps=2, most_passes=1)
    passes: list[SearchPass] = []
    kept = Kept()
    kept.changed = lambda name, value: passes.append(value)
    made(replace(world), kept=kept)
    assert [one.classes for one in passes] == [2] and passes[0].number == 1
