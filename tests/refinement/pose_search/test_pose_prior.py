"""Local poses: the fulcrum keeps its place, extents and priors hold, and a hinge motion is found."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cryotorch.ops.geometry.rotations import from_rotation_vector, random_rotations, rotation_angle
from cryotorch.ops.pose.scores import PoseTerms, pose_terms
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.pose_search.local import ball_grid, local_candidates
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.pose_search.search import covariance, polish, prepare_reference
from cryotorch.refinement.settings import SearchExtent, SearchSettings

FULCRUM = (3.0, -2.0, 4.0)
WIDE = SearchExtent(FULCRUM, 0.3, 4.0)


def tether(n: int, extent: SearchExtent = WIDE, seed: int = 0) -> PosePrior:
    generator = torch.Generator().manual_seed(seed)
    return PosePrior(random_rotations(n, generator), torch.randn(n, 2, generator=generator), extent)


def ball(n: int, radius: float, dimensions: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(n, dimensions, generator=generator)
    return radius * v / v.norm(dim=1, keepdim=True) * torch.rand(n, 1, generator=generator)


def image_of(point: tuple[float, ...], rotation: Tensor, shift: Tensor) -> Tensor:
    return (rotation @ torch.tensor(point))[:, :2] - shift


def test_turning_about_the_fulcrum_leaves_its_image_in_place() -> None:
    held = tether(20)
    rotation, shift = held.pose(ball(20, 0.3, 3, 1), torch.zeros(20, 2))
    before = image_of(FULCRUM, held.rotation, held.shift_px)
    assert (image_of(FULCRUM, rotation, shift) - before).abs().max() < 1e-5
    moved = image_of((8.0, 0.0, 0.0), rotation, shift) - image_of(
        (8.0, 0.0, 0.0), held.rotation, held.shift_px
    )
    assert moved.norm(dim=1).median() > 0.3


def test_relative_is_the_inverse_of_pose() -> None:
    held, turn, offset = tether(20), ball(20, 0.3, 3, 1), ball(20, 4.0, 2, 2)
    found = held.relative(*held.pose(turn, offset))
    torch.testing.assert_close(found[0], turn, atol=2e-6, rtol=0)
    torch.testing.assert_close(found[1], offset, atol=1e-5, rtol=0)


def test_extents_hold_and_leave_what_is_inside_alone() -> None:
    held, turn, offset = tether(200), ball(200, 0.6, 3, 1), ball(200, 8.0, 2, 2)
    rotation, shift = held.pose(turn, offset)
    w, d = held.relative(rotation, shift)
    assert w.norm(dim=1).max() <= 0.3 + 1e-5 and d.norm(dim=1).max() <= 4.0 + 1e-4
    far = turn.norm(dim=1) > 0.3
    assert far.sum() > 50
    # brought back along the same axis
    torch.testing.assert_close(
        w[far] / 0.3, turn[far] / turn[far].norm(dim=1, keepdim=True), atol=1e-4, rtol=0
    )
    again = held.confine(rotation, shift)
    inside = (turn.norm(dim=1) < 0.299) & (offset.norm(dim=1) < 3.99)
    assert torch.equal(again[0][inside], rotation[inside]) and torch.equal(
        again[1][inside], shift[inside]
    )


def test_cost_is_half_the_log_prior() -> None:
    held = tether(10, SearchExtent(FULCRUM, 1.0, 9.0, 0.1, 2.0))
    turn, offset = ball(10, 0.3, 3, 1), ball(10, 4.0, 2, 2)
    expected = 0.5 * (0.5 * (turn.norm(dim=1) / 0.1) ** 2 + 0.5 * (offset.norm(dim=1) / 2.0) ** 2)
    torch.testing.assert_close(held.cost(*held.pose(turn, offset)), expected, atol=1e-4, rtol=1e-4)
    assert float(tether(10).cost(*held.pose(turn, offset)).abs().max()) == 0


def test_derivatives_are_those_of_score_less_cost(simulate) -> None:
    """Central differences along steps of the tether itself, so that the fulcrum and the priors take part."""
    world = simulate(n=6, snr=5.0)
    s, n = world.settings, 6
    reference = prepare_reference(world.volume, 6.0, s.search, s.group, torch.float32)
    flat = torch.ones(1, s.box // 2 + 1)
    seen = observe(world.truth, torch.arange(n), world.images, flat, s.grid).limited(100)
    truth = (world.truth.rotation, world.truth.shift / s.pixel_size)
    held = PosePrior(*truth, SearchExtent(FULCRUM, 1.0, 9.0, 0.1, 1.5))
    start = held.pose(ball(n, 0.1, 3, 1), ball(n, 1.0, 2, 2))
    rows = torch.arange(n)

    def value(step: Tensor) -> Tensor:
        pose = held.step(*start, step)
        return (
            pose_terms(reference.slices, seen, rows, *pose).score.double()
            - held.cost(*pose).double()
        )

    gradient, normal = held.derivatives(pose_terms(reference.slices, seen, rows, *start), *start)
    for axis in range(5):
        h = 2e-3 if axis < 3 else 2e-2
        step = torch.zeros(n, 5)
        step[:, axis] = h
        numeric = (value(step) - value(-step)) / (2 * h)
        scale = gradient[:, axis].abs().max() + 1
        assert (numeric - gradient[:, axis]).abs().max() < 0.03 * scale, axis
    assert (torch.linalg.eigvalsh(normal) > 0).all()


def local_search(
    world, held: PosePrior, start: tuple[Tensor, Tensor], limit: float = 9.0, **changes
):
    settings = SearchSettings(**({"candidates": 6, "newton_steps": 2} | changes))
    s, n = world.settings, len(world.truth)
    reference = prepare_reference(world.volume, limit, settings, s.group, torch.float32)
    flat = torch.full((1, s.box // 2 + 1), 0.7)
    seen = observe(world.truth, torch.arange(n), world.images, flat, s.grid)
    found = local_candidates(reference, seen, *start, held, settings)
    return polish(reference, seen.limited(10**6), *found, settings, held)


def test_local_search_finds_what_moved_about_the_fulcrum(simulate) -> None:
    world = simulate(n=40, snr=2.0)
    truth = (world.truth.rotation, world.truth.shift / world.settings.pixel_size)
    displaced = PosePrior(*truth, SearchExtent(FULCRUM, 1.0, 9.0)).pose(
        ball(40, 0.35, 3, 3), ball(40, 1.5, 2, 4)
    )
    held = PosePrior(*displaced, SearchExtent(FULCRUM, 0.4, 2.5))
    poses = local_search(world, held, displaced)
    error = rotation_angle(poses.rotation, truth[0]).rad2deg()
    assert rotation_angle(displaced[0], truth[0]).rad2deg().median() > 8
    assert error.median() < 2.0 and (error < 4).float().mean() > 0.9
    assert (poses.shift_px - truth[1]).norm(dim=1).median() < 0.2
    w, d = held.relative(poses.rotation, poses.shift_px)
    assert w.norm(dim=1).max() <= 0.4 + 1e-4 and d.norm(dim=1).max() <= 2.5 + 1e-3


def test_narrow_priors_keep_the_pose_and_infinite_ones_change_nothing(simulate) -> None:
    world = simulate(n=20, snr=0.3)
    truth = (world.truth.rotation, world.truth.shift / world.settings.pixel_size)
    start = PosePrior(*truth, SearchExtent(FULCRUM, 1.0, 9.0)).pose(
        ball(20, 0.2, 3, 3), ball(20, 1.0, 2, 4)
    )
    tight = local_search(
        world, PosePrior(*start, SearchExtent(FULCRUM, 0.4, 2.5, 1e-4, 1e-3)), start
    )
    assert rotation_angle(tight.rotation, start[0]).max() < 1e-3
    assert (tight.shift_px - start[1]).norm(dim=1).max() < 1e-2
    free = local_search(world, PosePrior(*start, SearchExtent(FULCRUM, 0.4, 2.5)), start)
    wide = local_search(world, PosePrior(*start, SearchExtent(FULCRUM, 0.4, 2.5, 1e6, 1e6)), start)
    assert torch.equal(free.rotation, wide.rotation) and torch.equal(free.shift_px, wide.shift_px)
    still = local_search(world, PosePrior(*start, SearchExtent(FULCRUM, 0.0, 0.0)), start)
    assert rotation_angle(still.rotation, start[0]).max() < 1e-5
    assert (still.shift_px - start[1]).norm(dim=1).max() < 1e-4


def test_covariance_with_priors_is_no_wider_than_either(simulate) -> None:
    """Without data the covariance is the priors' own, its shift part swung by the fulcrum."""
    held = tether(4, SearchExtent((0.0, 0.0, 0.0), 1.0, 9.0, 0.02, 0.5))
    nothing = PoseTerms(torch.zeros(4, 7, 7))
    sigma = covariance(nothing, held.rotation, held.shift_px, held).diagonal(dim1=1, dim2=2).sqrt()
    expected = torch.tensor([0.02] * 3 + [0.5] * 2)
    torch.testing.assert_close(sigma, expected.expand(4, 5), rtol=0.02, atol=0)
    swung = replace(held, extent=replace(held.extent, fulcrum=(30.0, 0.0, 0.0)))
    wider = (
        covariance(nothing, swung.rotation, swung.shift_px, swung)
        .diagonal(dim1=1, dim2=2)[:, 3:]
        .sum(1)
    )
    lever = (swung.rotation @ torch.tensor([30.0, 0.0, 0.0])) * 0.02
    added = lever[:, :2].square().sum(1) + 2 * lever[:, 2].square()
    torch.testing.assert_close(wider, 0.5 + added, rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("radius", "step", "n"), [(0.0, 0.1, 1), (0.1, 0.1, 7), (0.1, 0.2, 1), (0.2, 0.1, 33)]
)
def test_ball_grid_holds_the_centre_first(radius: float, step: float, n: int) -> None:
    points = ball_grid(radius, step)
    assert len(points) == n and points[0].abs().max() == 0
    assert math.isclose(float(from_rotation_vector(points[0])[0, 0]), 1.0)
