"""What a refinement knows between two iterations, and that a checkpoint holds all of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cryotorch.refinement.em.initialise import initialise_state
from cryotorch.refinement.state import ConvergenceHistory, State


def test_a_checkpoint_holds_all_of_the_state(simulate: Callable, tmp_path: Path) -> None:
    world = simulate(48, 4.0)
    state, _ = initialise_state(
        world.blind, world.volume, world.batches(), world.settings, 24.0, torch.device("cpu")
    )
    state.particles = state.particles.replace(rotation=world.truth.rotation, scale=torch.rand(48))
    state.convergence = ConvergenceHistory(
        [5.0, 6.0], [4.0, 4.5], [math.inf, 0.7], [0.25, 0.5], [1]
    )
    state.history = [{"iteration": 1.0, "resolution": 9.0}, {"iteration": 2.0, "resolution": 8.0}]
    state.has_pose = torch.arange(48) < 30
    state.share = 0.5
    state.max_shell, state.scale_spread, state.mask = 7.5, 0.2, torch.rand(24, 24, 24)
    torch.save(state.state_dict(), tmp_path / "s.pt")
    saved = torch.load(tmp_path / "s.pt", weights_only=True)  # plain tensors and numbers
    other, _ = initialise_state(
        world.blind,
        world.volume,
        world.batches(),
        world.settings,
        24.0,
        torch.device("cpu"),
        fresh=False,
    )
    other.load_state_dict(saved, torch.device("cpu"))
    assert other.iteration == 2
    for name in ("references", "noise", "mask", "has_pose"):
        assert torch.equal(getattr(other, name), getattr(state, name)), name
    for name in (
        "max_shell",
        "mask_radius",
        "scale_spread",
        "share",
        "convergence",
        "history",
        "stopped",
    ):
        assert getattr(other, name) == getattr(state, name), name
    for name in ("rotation", "shift", "half", "scale", "pose_sigma"):
        assert torch.equal(getattr(other.particles, name), getattr(state.particles, name)), name


def test_a_course_counts_its_iterations_and_refuses_what_is_no_run() -> None:
    good = dict(
        crossings=[5.0, 6.0], areas=[4.0, 5.0], max_shells=[4.0, 6.0], turns=[math.inf, 0.1]
    )
    good |= dict(motions=[math.inf, 1.0], shares=[0.5, 1.0], ctf_after=[1])
    course = ConvergenceHistory(**good)
    course.check()
    assert len(course) == 2
    for name, values in (
        ("areas", [4.0]),
        ("areas", [4.0, "5"]),
        ("crossings", [5.0, math.nan]),
        ("max_shells", [4.0, math.inf]),
        ("ctf_after", [3]),
        ("ctf_after", [-1]),
    ):
        with pytest.raises((ValueError, TypeError)):
            ConvergenceHistory(**good | {name: values}).check()


def test_the_ctf_is_refined_in_the_iteration_that_the_course_names(simulate: Callable) -> None:
    world = simulate(8, None)
    state = State(world.blind, torch.zeros(2, 24, 24, 24), torch.ones(2, 1, 13), 4.0)
    assert (state.iteration, state.refines_ctf) == (0, False)
    assert not state.has_pose.any() and state.stable_iterations.tolist() == [0] * 8
    assert torch.isinf(state.max_power_ratio).all()
    state.convergence = ConvergenceHistory(crossings=[5.0, 6.0], ctf_after=[2])
    assert (state.iteration, state.refines_ctf) == (2, True)
    state.convergence.crossings.append(6.0)
    assert not state.refines_ctf
