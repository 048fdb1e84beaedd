"""What the state takes over: noise per coefficient, scales that shrink, poses with their changes, and the plan of the next iteration."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.refinement.em import update
from cryotorch.refinement.em.iteration import maximize
from cryotorch.refinement.em.update import coefficients_per_shell, noise_power, plan_next, take_over
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import ScheduleSettings
from cryotorch.refinement.state import ConvergenceHistory, State


def test_noise_power_is_residual_per_coefficient(nothing_found: Callable) -> None:
    found = nothing_found(4, groups=3)
    per_image = coefficients_per_shell(24)
    assert int(per_image[1:].sum()) == len(half_plane(24).shell)
    found.count[:, :2] = torch.tensor([[5.0, 2], [3, 0]], dtype=torch.float64)[..., None]
    sigma2 = torch.arange(1.0, 14, dtype=torch.float64)
    found.residual[0, 0] = 5 * per_image * sigma2
    found.residual[0, 1] = 2 * per_image * 3 * sigma2
    found.residual[1, 0] = 3 * per_image * 2 * sigma2
    before = torch.full((2, 3, 13), 0.25)
    noise = noise_power(found, before)
    sigma2[0] = sigma2[1]  # a shell without coefficients
    assert torch.allclose(noise[0, 0], sigma2.float())
    assert torch.allclose(noise[0, 1], 3 * sigma2.float())
    assert torch.allclose(noise[1, 0], 2 * sigma2.float())
    assert torch.equal(noise[1, 1], before[1, 1])  # no images there: as before
    assert torch.equal(noise[:, 2], before[:, 2])


def test_noise_power_never_is_zero(nothing_found: Callable) -> None:
    found = nothing_found(4)
    found.count[:] = 2
    found.residual[..., 5:] = 1.0
    noise = noise_power(found, torch.ones(2, 1, 13))
    assert noise.min() > 0
    assert torch.allclose(noise[..., 3], 1e-6 * noise.mean(-1))


@pytest.fixture
def scaled(simulate: Callable, nothing_found: Callable, start: Callable) -> Callable[..., State]:
    """scaled(cross, power): the state after these products of images and projections."""

    def scaled(cross: Tensor, power: Tensor) -> State:
        state, found = start(simulate(len(cross), None, box=8)), nothing_found(len(cross))
        found.cross[:], found.power[:] = cross, power
        update._update_scale(state, found, torch.ones(len(cross), dtype=torch.bool))
        return state

    return scaled


def test_scales_shrink_to_one_when_particles_do_not_differ(scaled: Callable) -> None:
    """cross / power scatters by noise alone, 1 / sqrt(2 power) = 0.22."""
    generator = torch.Generator().manual_seed(1)
    power = torch.full((2000,), 10.0)
    cross = power + (power / 2).sqrt() * torch.randn(2000, generator=generator)
    state = scaled(cross, power)
    assert (cross / power).std() > 0.2
    assert state.scale_spread < 0.05
    assert state.particles.scale.std() < 0.02


@pytest.mark.parametrize("spread", [0.15, 0.3])
def test_a_planted_spread_is_recovered(spread: float, scaled: Callable) -> None:
    generator = torch.Generator().manual_seed(2)
    truth = 1 + spread * torch.randn(4000, generator=generator)
    power = 10 + 40 * torch.rand(4000, generator=generator)
    cross = truth * power + (power / 2).sqrt() * torch.randn(4000, generator=generator)
    # a map on half the grey scale halves the cross terms and quarters the powers: no particle's scale knows
    state = scaled(cross / 2, power / 4)
    scale = state.particles.scale
    assert state.scale_spread == pytest.approx(spread, rel=0.15)
    for half in (0, 1):
        assert scale[state.particles.half == half].mean() == pytest.approx(1, abs=1e-4)
    assert torch.corrcoef(torch.stack([scale, truth]))[0, 1] > 0.7
    error, before = (scale - truth).std(), (cross / power - truth).std()
    assert error < 0.95 * before  # shrinking helps
    assert scale.min() > 0.15 and scale.max() < 2.5


def test_scales_of_hopeless_particles_stay_in_range(scaled: Callable) -> None:
    power = torch.full((200,), 50.0)
    cross = power.clone()
    cross[:40] = -power[:40]  # upside down
    cross[40:50] = 100 * power[40:50]
    scale = scaled(cross, power).particles.scale
    assert 0.15 < scale.min() and scale.max() / scale.min() == pytest.approx(3.0 / 0.2)
    state = scaled(-power, power)
    assert torch.equal(state.particles.scale, torch.ones(200))  # nothing to go by


@pytest.fixture
def moved(simulate: Callable, nothing_found: Callable, start: Callable):
    """A C4 world whose particles turned by 10° and 90°, and moved by 5 Å; the last was not looked at."""
    world = simulate(20, None, symmetry="C4", per_particle_scale=False)
    state, found = start(world), nothing_found(20)
    state.has_pose[:] = True
    turn = torch.tensor([[0, math.radians(10), 0], [0, 0, math.pi / 2]])
    turned = from_rotation_vector(turn)
    found.rotation[:] = turned[0] @ turned[1]
    found.shift[:] = torch.tensor([3.0, -4.0])
    found.sigma[:] = torch.tensor([math.radians(5), 2.0])
    found.updated[-1] = 0
    return world, state, found


def test_poses_are_taken_over_and_compared_up_to_symmetry(moved) -> None:
    world, state, found = moved
    learnt = take_over(state, found, world.settings)
    assert learnt.rotation_change[:-1] == pytest.approx(10, abs=1e-3)
    assert learnt.shift_change[:-1] == pytest.approx(5, abs=1e-5)
    assert learnt.rotation_change[-1].isnan() and learnt.shift_change[-1].isnan()
    assert learnt.median == pytest.approx((10, 5), abs=1e-3)
    assert torch.equal(state.particles.rotation[:-1], found.rotation[:-1])
    assert torch.equal(state.particles.rotation[-1], world.blind.rotation[-1])
    assert state.particles.shift[-1].tolist() == [0, 0] and state.particles.has_pose
    # the first poses of a run are what the frame is measured against
    assert torch.equal(state.anchor_shift[:-1], found.shift[:-1])
    assert state.anchor_rotation[-1].isnan().all()


def test_the_course_tells_how_far_poses_went(moved) -> None:
    """10° are two and 5 Å are two and a half standard errors."""
    world, state, found = moved
    take_over(state, found, world.settings)
    assert state.convergence.max_shells == [9.0]
    assert state.convergence.turns == pytest.approx([math.radians(10)], rel=1e-4)
    assert state.convergence.motions == pytest.approx([2.5], rel=1e-4)


def test_particles_without_a_pose_before_have_gone_no_distance(moved) -> None:
    world, state, found = moved
    state.has_pose[:] = False
    learnt = take_over(state, found, world.settings)
    assert learnt.rotation_change.isnan().all() and learnt.shift_change.isnan().all()
    assert state.convergence.turns == state.convergence.motions == [math.inf]
    assert state.has_pose.tolist() == [True] * 19 + [False]


def test_an_image_that_is_too_loud_is_named(moved) -> None:
    """By how much it exceeds the noise that was expected of it."""
    world, state, found = moved
    state.max_power_ratio = torch.full((4,), 4.0)
    found.ratio[5] = 400.0
    learnt = take_over(state, found, world.settings)
    assert list(learnt.loud) == [5]
    assert learnt.noise_factor[5] == pytest.approx(400, rel=1e-4)
    assert learnt.noise_factor[:5] == pytest.approx(1, rel=1e-4)


def test_the_last_iteration_is_final(
    simulate: Callable, start: Callable, e_step: Callable, alone: Ranks
) -> None:
    world = simulate(30, 4.0, schedule=ScheduleSettings(4.0, 11.0, max_iterations=1))
    state = start(world)
    result = maximize(e_step(world, state), alone)
    assert result.final and state.stopped == "most_iterations"
    reason = next(m["reason"] for m in result.messages if m.code == "finished")
    assert reason["iterations"] == 1
    assert state.max_shell == 9.0  # there is no next one


def test_the_next_limit_runs_ahead_of_the_crossing(
    simulate: Callable, nothing_found: Callable, start: Callable
) -> None:
    """Two shells at first; and what a share of the particles was is told."""
    world = simulate(20, None, schedule=ScheduleSettings(4.0, 11.0))
    state, found = start(world), nothing_found(20)
    state.share = 0.5
    found.updated[10:] = 0
    course = dict(crossings=[6.5], areas=[6.0], max_shells=[4.0], turns=[0.01], motions=[1.0])
    state.convergence = ConvergenceHistory(**course, shares=[1.0])
    expectation = SimpleNamespace(state=state, settings=world.settings, insertion_limit=9.0)
    (note,) = plan_next(expectation, found, state.references, None)
    assert note.code == "some_particles" and note.values == dict(seen=10, particles=20)
    assert (state.max_shell, state.share, state.stopped) == (8.5, 1.0, "")
