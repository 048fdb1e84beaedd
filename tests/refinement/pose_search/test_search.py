"""The pose search finds known poses, and knows how well."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane, pack
from cryotorch.ops.geometry.rotations import from_rotation_vector, random_rotations, rotation_angle
from cryotorch.ops.geometry.symmetry import in_asymmetric_unit, point_group
from cryotorch.ops.pose.scores import Observation, PoseTerms, pose_terms
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.pose_search.search import (
    Poses,
    Reference,
    ascend,
    ascend_by_tensors,
    coarse_candidates,
    covariance,
    ladder,
    newton_step,
    polish,
    prepare_reference,
    shift_grid,
)
from cryotorch.refinement.settings import SearchSettings


def reference(world, limit: float = 9.0, **search) -> Reference:
    settings = SearchSettings(**({"grid_step": 0.25, "shift_extent": 3.0} | search))
    return prepare_reference(world.volume, limit, settings, world.settings.group, torch.float32)


def observation(world, noise: float = 1.0) -> Observation:
    s, n = world.settings, len(world.truth)
    # the window takes some of the noise away, evenly enough
    flat = torch.full((1, s.box // 2 + 1), noise * 0.7)
    return observe(world.truth, torch.arange(n), world.images, flat, s.grid)


def errors(world, poses: Poses) -> tuple[Tensor, Tensor]:
    """Degrees modulo symmetry, and pixels."""
    copies = world.truth.rotation[:, None] @ world.settings.group.float()
    angle = rotation_angle(poses.rotation[:, None], copies).amin(1).rad2deg()
    return angle, (poses.shift_px - world.truth.shift / world.settings.pixel_size).norm(dim=1)


def global_search(table, seen, rotation, shift, extent, settings) -> Poses:
    """Grid and polish, as the E-step does them."""
    found = coarse_candidates(table, seen, rotation, shift, extent, settings)
    return polish(table, seen, *found, settings)


def search(world, table: Reference, seen: Observation, **changes) -> Poses:
    settings = SearchSettings(**({"grid_step": 0.25, "shift_extent": 3.0} | changes))
    n = len(world.truth)
    return global_search(table, seen, None, torch.zeros(n, 2), 3.0, settings)


def test_climbs_from_six_degrees_and_a_pixel_off(simulate: Callable) -> None:
    world = simulate(60, None)
    table, seen, image = reference(world), observation(world, 1e-2), torch.arange(60)
    axis = torch.nn.functional.normalize(
        torch.randn(60, 3, generator=torch.Generator().manual_seed(2)), dim=1
    )
    rotation = from_rotation_vector(axis * math.radians(6)) @ world.truth.rotation
    shift = world.truth.shift / 4.0 + torch.tensor([0.7, -0.7])
    poses = polish(table, seen, image, rotation, shift, SearchSettings(newton_steps=4))
    angle, move = errors(world, poses)
    assert angle.median() < 0.2 and angle.quantile(0.95) < 1
    assert move.median() < 0.02


def test_a_step_is_kept_only_if_the_score_rises(simulate: Callable) -> None:
    world = simulate(40, 0.5)
    table, seen, image = reference(world), observation(world), torch.arange(40)
    rotation = random_rotations(40, torch.Generator().manual_seed(3))  # nowhere near the truth
    shift = torch.zeros(40, 2)
    before = pose_terms(table.slices, seen, image, rotation, shift).score
    terms, turned, moved = ascend(table.slices, seen, image, rotation, shift, 5)
    assert (terms.score >= before).all() and (terms.score > before + 1).float().mean() > 0.9
    again = pose_terms(table.slices, seen, image, turned, moved)
    assert torch.allclose(
        again.gram, terms.gram, rtol=1e-3, atol=1e-2
    )  # terms are those of the pose
    assert torch.allclose(turned @ turned.mT, torch.eye(3), atol=1e-5)


def test_steps_are_short(simulate: Callable) -> None:
    world = simulate(20, 2.0)
    table, seen = reference(world), observation(world, 1e-3)
    rotation = random_rotations(20, torch.Generator().manual_seed(4))
    terms = pose_terms(table.slices, seen, torch.arange(20), rotation, torch.full((20, 2), 5.0))
    step = newton_step(terms.gradient, terms.normal, torch.full((20,), 0.05))
    assert step[:, :3].norm(dim=1).max() <= 0.2001 and step[:, 3:].norm(dim=1).max() <= 3.001
    # so heavily damped it follows the gradient, a little
    tiny = newton_step(terms.gradient, terms.normal, torch.full((20,), 1e6))
    assert ((tiny * terms.gradient).sum(1) > 0).all() and tiny.abs().max() < 0.01


@pytest.mark.parametrize(("snr", "median", "tail"), [(None, 0.1, 0.3), (0.3, 3.0, 6.0)])
def test_finds_known_poses_from_nothing(
    snr: float | None, median: float, tail: float, simulate: Callable
) -> None:
    world = simulate(80, snr, box=32)
    table, seen = reference(world, 12.0), observation(world, 1e-2 if snr is None else 1.0)
    poses = search(world, table, seen)
    angle, move = errors(world, poses)
    assert angle.median() < median and angle.quantile(0.9) < tail
    assert move.median() < (0.01 if snr is None else 0.25)
    # the truth cannot be much better than what was found
    truth = world.truth.rotation, world.truth.shift / 4.0
    seen = seen.limited(half_plane(seen.box).count(12.0))
    true = pose_terms(table.slices, seen, torch.arange(80), *truth)
    assert (poses.terms.score > true.score - 2).float().mean() > 0.9


def test_the_asymmetric_unit_is_enough_for_d2(simulate: Callable) -> None:
    world = simulate(60, None, symmetry="D2")
    table = reference(world)
    group = point_group("D2")
    view = table.grid.rotation[:, 2]
    assert in_asymmetric_unit(view, group).all()
    whole = len(reference(simulate(2, None)).grid.rotation)
    assert len(table.grid.rotation) == pytest.approx(whole / 4, rel=0.1)
    angle, move = errors(world, search(world, table, observation(world, 1e-2)))
    assert angle.median() < 0.4 and angle.quantile(0.9) < 1.5
    assert move.median() < 0.03


def test_the_previous_pose_is_one_of_the_candidates(simulate: Callable) -> None:
    """With a grid far too coarse, the search still does not lose what it had."""
    world = simulate(40, 1.0)
    table = reference(world, grid_step=1.2, candidates=1)
    seen, settings = observation(world), SearchSettings(grid_step=1.2, candidates=1)
    centre = world.truth.shift / 4.0
    kept = global_search(table, seen, world.truth.rotation, centre, 1.0, settings)
    lost = global_search(table, seen, None, centre, 1.0, settings)
    assert errors(world, kept)[0].quantile(0.9) < 5
    assert errors(world, lost)[0].median() > 5


def test_the_covariance_is_that_of_the_errors(simulate: Callable) -> None:
    """Errors in units of their own standard deviation have mean square 1, on noise that the model knows."""
    world = simulate(200, 1.0, shift_px=0.5)
    windowed = observation(world)
    # without the window the noise is white with variance 1
    precision = torch.ones_like(windowed.precision)
    seen = Observation(pack(world.images), windowed.gain, precision, windowed.box)
    table = reference(world, 9.0)
    seen = seen.limited(half_plane(seen.box).count(9.0))
    start = world.truth.rotation, world.truth.shift / 4.0
    terms, rotation, shift = ascend(table.slices, seen, torch.arange(200), *start, 8)
    error = torch.empty(200, 5)
    difference = rotation @ world.truth.rotation.mT
    error[:, 0] = (difference[:, 2, 1] - difference[:, 1, 2]) / 2
    error[:, 1] = (difference[:, 0, 2] - difference[:, 2, 0]) / 2
    error[:, 2] = (difference[:, 1, 0] - difference[:, 0, 1]) / 2
    error[:, 3:] = shift - start[1]
    sigma = covariance(terms).diagonal(dim1=1, dim2=2).sqrt()
    score = (error / sigma).square().median(0).values / 0.455  # the median of chi-square
    assert ((0.6 < score) & (score < 1.7)).all(), score
    whole = (
        error[:, None].double()
        @ torch.linalg.inv(covariance(terms).double())
        @ error[:, :, None].double()
    )
    assert whole.median() / 4.35 == pytest.approx(1, abs=0.5)


def test_a_flat_posterior_is_as_wide_as_the_prior() -> None:
    sigma = covariance(PoseTerms(torch.zeros(1, 7, 7)))[0].diagonal().sqrt()
    expected = [math.radians(13)] * 3 + [4.5] * 2
    assert sigma.tolist() == pytest.approx(expected, rel=1e-4)


def test_shift_grid_is_a_disc_with_its_centre() -> None:
    points = shift_grid(3.0, 1.0)
    assert len(points) == 29 and [0.0, 0.0] in points.tolist()
    assert points.norm(dim=1).max() <= 3.0
    assert shift_grid(0.4, 1.0).tolist() == [[0.0, 0.0]]
    assert shift_grid(3.0, 1.5).unique().tolist() == [-3.0, -1.5, 0.0, 1.5, 3.0]


def test_the_ladder_climbs_to_the_limit() -> None:
    assert ladder(12, 12) == [12]
    assert ladder(12, 31) == pytest.approx([12, 20.2, 31])
    assert ladder(4, 9) == pytest.approx([4, 7.4, 9])


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("stretched", [False, True])
def test_the_compiled_climb_is_that_of_tensor_operations(
    simulate: Callable, known: bool, stretched: bool
) -> None:
    world = simulate(40, 1.0)
    table, seen = reference(world), observation(world).limited(half_plane(24).count(9))
    if stretched:
        stretch = torch.eye(2) + 0.02 * torch.randn(40, 2, 2, generator=torch.manual_seed(0))
        seen = replace(seen, magnification=stretch)
    draw = torch.Generator().manual_seed(5)
    image = torch.arange(40).repeat_interleave(2)
    off = from_rotation_vector(0.08 * torch.randn(80, 3, generator=draw))
    start = off @ world.truth.rotation[image]
    shift = world.truth.shift[image] / 4 + 0.3 * torch.randn(80, 2, generator=draw)
    before = start.clone(), shift.clone()
    terms = pose_terms(table.slices, seen, image, start, shift) if known else None
    for steps in (0, 1, 6):
        climb = table.slices, seen, image, start, shift, steps, terms
        (found, *ends), (expected, *others) = ascend(*climb), ascend_by_tensors(*climb)
        assert torch.equal(start, before[0]) and torch.equal(shift, before[1])
        # where a step is worth next to nothing, rounding decides whether it is taken
        largest = expected.gram.abs().max()
        assert (found.gram - expected.gram).abs().max() < (1e-5 if steps < 2 else 1e-2) * largest
        assert (found.score - expected.score).abs().max() < 0.02
        turned = rotation_angle(ends[0], others[0])
        assert turned.max() < (2e-3 if steps < 2 else 0.02) and turned.median() < 1e-3
        assert (ends[1] - others[1]).norm(dim=1).max() < 0.05
        again = pose_terms(table.slices, seen, image, *ends)
        assert torch.allclose(again.gram, found.gram, rtol=1e-4, atol=1e-5 * float(largest))
    assert (found.score > pose_terms(table.slices, seen, image, *before).score).all()


def test_a_flat_likelihood_moves_nothing() -> None:
    """No image and no map: the prior keeps the solution finite."""
    table = projector(torch.zeros(8, 8, 8), 3)
    m = half_plane(8).count(3)
    seen = Observation(torch.zeros(1, m, dtype=torch.complex64), *torch.ones(2, 1, m), 8)
    pose = torch.zeros(1, dtype=torch.int64), torch.eye(3)[None], torch.zeros(1, 2)
    terms, rotation, shift = ascend(table, seen, *pose, 4)
    assert (terms.gram == 0).all() and torch.equal(rotation, pose[1]) and not shift.any()
