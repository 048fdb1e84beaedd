"""Binary and soft masks: balls of known radius, cavities, truth tables."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.masks.morphology import (
    dilate,
    fill_holes,
    intersect,
    spheres,
    subtract,
    unite,
)
from cryotorch.ops.masks.soft import soft_mask


def distance(box: int, centre: tuple[float, float, float]) -> torch.Tensor:
    """From a point (x, y, z) in voxels from the corner."""
    line = torch.arange(box, dtype=torch.float32)
    x, y, z = ((line - c) ** 2 for c in centre)
    return (z[:, None, None] + y[:, None] + x).sqrt()


def ball(box: int, radius: float) -> torch.Tensor:
    return distance(box, (box // 2,) * 3) <= radius


@pytest.mark.parametrize("box", [40, 41])
@pytest.mark.parametrize("r", [1.0, 2.5, 6.0])
def test_dilation_adds_its_radius_to_that_of_a_ball_and_erosion_takes_it_away(box, r):
    before, after = ball(box, 9), dilate(ball(box, 9), r)
    assert (after & ~ball(box, 9 + r)).sum() == 0
    effective = (3 / (4 * math.pi) * torch.stack([after.sum(), before.sum()])) ** (1 / 3)
    assert float(effective[0] - effective[1]) == pytest.approx(r, abs=0.25)
    smaller = dilate(ball(box, 9), -r)
    effective = (3 / (4 * math.pi) * torch.stack([smaller.sum(), before.sum()])) ** (1 / 3)
    assert float(effective[1] - effective[0]) == pytest.approx(r, abs=0.45)


def test_dilation_of_a_voxel_is_a_ball_and_zero_does_nothing():
    voxel = ball(21, 0)
    assert voxel.sum() == 1
    for r in (1.0, 2.0, 4.4, 7.0):
        assert torch.equal(dilate(voxel, r), ball(21, r))
    assert torch.equal(dilate(ball(21, 5), 0), ball(21, 5))
    assert not dilate(voxel, -1).any()


def test_a_soft_edge_is_half_at_half_way():
    mask = soft_mask(ball(41, 0), 6, 16)
    r = distance(41, (20, 20, 20))
    assert float(mask[r == 11].mean()) == pytest.approx(0.5, abs=1e-6)
    assert (mask[r <= 6] == 1).all() and (mask[r >= 16] == 0).all()


def test_holes_are_filled_and_channels_stay():
    shell = ball(25, 9) & ~ball(25, 5)
    assert torch.equal(fill_holes(shell), ball(25, 9))
    channel = shell.clone()
    channel[12, 12, 12:] = False
    assert torch.equal(fill_holes(channel), channel)


def test_truth_table():
    a, b = torch.tensor([0.0, 0, 1, 1, 0.3]), torch.tensor([0.0, 1, 0, 1, 0.6])
    assert unite(a, b).tolist() == pytest.approx([0, 1, 1, 1, 0.6])
    assert intersect(a, b).tolist() == pytest.approx([0, 0, 0, 1, 0.3])
    assert subtract(a, b).tolist() == pytest.approx([0, 0, 1, 0, 0.3])


@pytest.mark.parametrize("box", [32, 33])
def test_spheres_are_where_they_were_put(box):
    table = torch.tensor([[8.0, 20, 12, 4], [22.5, 10, 12, 3]])
    mask = spheres(box, table, edge=4)
    first, second = distance(box, (8, 20, 12)), distance(box, (22.5, 10, 12))
    assert (mask[(first <= 4) | (second <= 3)] == 1).all()
    assert (mask[(first >= 8) & (second >= 7)] == 0).all()
    assert float(mask[12, 20, 14]) == pytest.approx(0.5)  # 6 from the first: half way
    hard = spheres(box, table, edge=0)
    assert torch.equal(hard > 0, (first <= 4) | (second <= 3))


def test_a_sphere_elsewhere_is_refused():
    with pytest.raises(
        ValueError, match=r"\(40, 3, 3\) lies outside the box, whose voxels are 0 to 31"
    ):
        spheres(32, torch.tensor([[40.0, 3, 3, 2]]), 0)
    with pytest.raises(ValueError, match="radius above zero, got -2"):
        spheres(32, torch.tensor([[4.0, 3, 3, -2]]), 0)
