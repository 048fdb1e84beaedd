"""Which particles are left out of a global search, and that nothing is lost by it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.geometry.rotations import from_rotation_vector, rotation_angle
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.iteration import expect
from cryotorch.refinement.pose_search.stable_poses import (
    MIN_STABLE,
    RECHECK_FRACTION,
    SAME_POSE,
    stable_poses,
    update_stability,
)
from cryotorch.refinement.settings import ScheduleSettings
from cryotorch.refinement.state import ConvergenceHistory, State


def test_a_far_move_starts_the_count_anew() -> None:
    near, far, nowhere = 0.9, 1.1, math.nan
    turn = torch.tensor([near, far, near, nowhere, near, near]) * SAME_POSE[0]
    move = torch.tensor([near, near, far, near, nowhere, near]) * SAME_POSE[1]
    certain = torch.arange(6) < 5
    assert update_stability(torch.full((6,), 3), turn, move, certain).tolist() == [4, 0, 0, 0, 0, 0]


def test_one_in_twenty_is_searched_again_and_others_each_time() -> None:
    stable_iterations = torch.tensor([0, MIN_STABLE - 1, MIN_STABLE, MIN_STABLE + 5]).repeat(5000)
    first, second = stable_poses(stable_iterations, 4), stable_poses(stable_iterations, 5)
    assert torch.equal(first, stable_poses(stable_iterations, 4)) and not torch.equal(first, second)
    assert not first[stable_iterations < MIN_STABLE].any()
    share = 1 - first[stable_iterations >= MIN_STABLE].float().mean()
    assert share == pytest.approx(RECHECK_FRACTION, abs=0.007)  # three standard errors
    both = ~(first | second)[stable_iterations >= MIN_STABLE]
    assert both.float().mean() == pytest.approx(RECHECK_FRACTION**2, abs=0.002)


def test_settled_particles_climb_from_where_they_are(simulate: Callable) -> None:
    """Half of them are a little off; the others, unsettled, start far off."""
    world = simulate(60, 4.0, schedule=ScheduleSettings(9.0, 11.0))
    generator = torch.Generator().manual_seed(0)
    little = from_rotation_vector(math.radians(2) * torch.randn(60, 3, generator=generator))
    stable_iterations = torch.arange(60) % 4 // 2 * MIN_STABLE
    start = torch.where(
        (stable_iterations > 0)[:, None, None], little @ world.truth.rotation, world.blind.rotation
    )
    shift = world.truth.shift + 0.3 * torch.randn(60, 2, generator=generator)
    noise = torch.full((2, 1, 13), 0.7)
    found = {}
    for name, count in (
        ("all", 0 * stable_iterations),
        ("some", stable_iterations),
        ("resting", 0 * stable_iterations + MIN_STABLE),
    ):
        state = State(
            world.blind.replace(rotation=start, shift=shift),
            torch.stack([world.volume] * 2),
            noise,
            9.0,
            has_pose=torch.ones(60, dtype=torch.bool),
            stable_iterations=count,
            convergence=ConvergenceHistory(
                crossings=[8.0], areas=[8.0], motions=[math.inf], shares=[1.0]
            ),
        )
        expectation = Expectation(state, world.settings, torch.device("cpu"))
        batches = world.batches(20)
        for number in range(len(batches)):
            expect(expectation, batches[number])
        assert (expectation.result.updated == 1).all()
        found[name] = expectation.result
    error = {
        name: torch.rad2deg(rotation_angle(f.rotation, world.truth.rotation))
        for name, f in found.items()
    }
    same = rotation_angle(found["some"].rotation, found["all"].rotation)
    assert torch.rad2deg(same).max() < 0.6 and error["some"].max() < 8
    assert (found["some"].shift - found["all"].shift).norm(dim=1).max() < 0.2
    # without a search those that are far off stay so
    skipped = stable_poses(torch.full((60,), MIN_STABLE), 1)
    assert error["resting"][skipped & (stable_iterations == 0)].median() > 60


def test_a_pose_is_certain_where_no_other_comes_close(simulate: Callable) -> None:
    """With a clear image most candidates near the pose have climbed to it, the others are hopeless; without signal several stay."""
    certain = {}
    for snr in (30.0, 0.002):
        world = simulate(40, snr, schedule=ScheduleSettings(9.0, 11.0))
        state = State(
            world.blind, torch.stack([world.volume] * 2), torch.full((2, 1, 13), 0.7), 9.0
        )
        expectation = Expectation(state, world.settings, torch.device("cpu"))
        batches = world.batches(20)
        for number in range(len(batches)):
            expect(expectation, batches[number])
        certain[snr] = expectation.result.certain
        assert set(certain[snr].tolist()) <= {0.0, 1.0}
    assert certain[30.0].mean() > 0.4 and certain[0.002].mean() < 0.1
