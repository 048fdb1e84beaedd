"""The search of several classes: its evidence against sums over all poses, near and everywhere, and what is inserted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.fourier.slices import accumulator, merge_
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import from_rotation_vector, rotation_angle
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.pose.scores import pose_terms
from cryotorch.refinement.class_search import Before, ClassSearch, Found

C1, EXTENT = point_group("C1"), 2.0


def test_evidence_is_the_logarithm_of_a_mean_over_all_poses(begin: Callable) -> None:
    """Against a sum over a fine grid about the best pose, which holds nearly all of it: five dimensions, eleven points each."""
    world = begin(2, snr=3.0)
    search = ClassSearch(world.volume[None], 7.0, C1, EXTENT)
    (poses,), evidence = search(world.images)
    axis = torch.linspace(-4, 4, 11, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(*[axis] * 5, indexing="ij"), -1).reshape(-1, 5)
    grid = grid[grid.norm(dim=1) < 5.2]
    inside = world.images.limited(half_plane(24).count(7.0))
    for row in range(2):
        root = torch.linalg.cholesky(poses.covariance[row].double())
        step = grid @ root.T
        rotation = from_rotation_vector(step[:, :3]) @ poses.rotation[row].double()
        shift = poses.shift_px[row] + step[:, 3:]
        image = torch.full((len(grid),), row)
        slices = search.references[0].slices
        terms = pose_terms(slices, inside, image, rotation.float(), shift.float())
        cell = float(torch.linalg.det(root)) * 0.8**5
        room = 8 * math.pi**2 * math.pi * EXTENT**2
        summed = (2 * terms.score.double()).logsumexp(0) + math.log(cell / room)
        assert float(evidence[row, 0]) == pytest.approx(float(summed), abs=0.5)


def test_evidence_of_a_symmetric_map_does_not_depend_on_the_group_it_is_searched_with(
    begin: Callable,
) -> None:
    """All over SO(3) there are four times as many peaks, each a fourth of what is left of it with the group."""
    world = begin(40, snr=1.0, symmetry="C4")
    found = [
        ClassSearch(world.volume[None], 8.0, point_group(group), EXTENT)(world.images)[1]
        for group in ("C1", "C4")
    ]
    difference = (found[1] - found[0])[:, 0]
    assert float(difference.median()) == pytest.approx(math.log(4), abs=0.15)


def test_a_last_pose_is_climbed_from(begin: Callable) -> None:
    """Near ones stay with their pose however wrong, the others are found everywhere; in the order of the images."""
    world = begin(40, snr=2.0)
    search = ClassSearch(world.volume[None], 8.0, C1, EXTENT)
    (free,), evidence = search(world.images)
    turned = from_rotation_vector(torch.tensor([0.05, 0.0, 0.0])) @ free.rotation
    wrong = from_rotation_vector(torch.tensor([2.0, 1.0, 0.0])) @ free.rotation
    near = torch.arange(40) % 2 == 0
    start = torch.where((torch.arange(40) % 4 == 2)[:, None, None], wrong, turned)
    before = Before(start[:, None], free.shift_px[:, None])
    (found,), again = search(world.images, before, near)
    angle = torch.rad2deg(rotation_angle(found.rotation, free.rotation))
    stays = torch.arange(40) % 4 == 2
    assert float((angle[~stays] < 1).float().mean()) > 0.9 and float(angle[stays].median()) > 10
    difference = (again - evidence)[~stays].abs()
    assert float(difference.median()) < 0.05


def test_images_are_inserted_by_share_and_half(begin: Callable) -> None:
    world = begin(8, snr=1.0)
    search = ClassSearch(torch.stack([world.volume] * 2), 6.0, C1, EXTENT)
    poses, _ = search(world.images)
    share = torch.tensor([[0.75, 0.25], [1.0, 0.0]]).repeat(4, 1)
    half = torch.tensor([0, 1]).repeat(4)
    sums = [[accumulator(24, 2), accumulator(24, 2)] for _ in range(2)]
    search.insert(world.images, poses, share, half, sums)
    weight = [[float(merge_(one)[..., 2].sum()) for one in halves] for halves in sums]
    assert weight[1][1] == 0 and weight[0][0] == pytest.approx(3 * weight[1][0], rel=1e-4)
    found = Found.of_best(poses, share, world.images, 6.0)
    assert found.best.tolist() == [0] * 8 and torch.equal(found.rotation, poses[0].rotation)
