"""Masks: closed forms, SciPy's distance transform, and behaviour on noisy maps."""

from __future__ import annotations

import math

import pytest
import scipy.ndimage
import torch

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import (
    _large_pieces,
    density_mask,
    distance_transform,
    grow_in_box,
    soft_circle,
    soft_mask,
    soft_sphere,
)


def radius(box: int, dimensions: int = 3) -> torch.Tensor:
    lines = torch.meshgrid(*[torch.arange(box) - box // 2.0] * dimensions, indexing="ij")
    return torch.stack(lines).square().sum(0).sqrt()


def noise(box: int, seed: int) -> torch.Tensor:
    return torch.randn(box, box, box, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("box", [16, 17])
def test_soft_sphere_and_circle_are_one_inside_half_at_mid_edge_and_zero_outside(box):
    for mask, r in (
        (soft_sphere(box, 4, 2), radius(box)),
        (soft_circle(box, 4, 2), radius(box, 2)),
    ):
        assert (mask[r <= 4] == 1).all() and (mask[r >= 6] == 0).all()
        assert mask[r == 5].numpy() == pytest.approx(0.5, abs=1e-6)
        edge = (r > 4) & (r < 6)
        expected = 0.5 + 0.5 * torch.cos(math.pi * (r[edge] - 4) / 2)
        assert torch.allclose(mask[edge], expected, atol=1e-6)


def test_an_edge_of_zero_is_a_step():
    assert torch.equal(soft_sphere(12, 3, 0), (radius(12) <= 3).float())


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 17, 17), (9, 20, 13), (1, 7, 30)])
@pytest.mark.parametrize("density", [0.001, 0.02, 0.5])
def test_distance_transform_is_scipys(shape, density):
    generator = torch.Generator().manual_seed(sum(shape))
    mask = torch.rand(shape, generator=generator) < density
    mask[0, 3, 5] = True
    expected = torch.from_numpy(scipy.ndimage.distance_transform_edt(~mask.numpy())).float()
    assert torch.allclose(distance_transform(mask), expected, atol=0, rtol=1e-6)
    for limit in (1, 3.5, 6.0):
        found = distance_transform(mask, limit)
        assert torch.allclose(found, expected.clamp(max=limit), atol=0, rtol=1e-6)


def test_distance_to_nothing():
    nothing = torch.zeros(5, 5, 5, dtype=torch.bool)
    assert distance_transform(nothing).isinf().all()
    assert (distance_transform(nothing, 3) == 3).all()


def test_soft_mask_of_one_voxel_is_a_soft_sphere():
    voxel = radius(24) == 0
    assert torch.allclose(soft_mask(voxel, 4, 9), soft_sphere(24, 4, 5), atol=1e-6)
    assert torch.equal(soft_mask(voxel, 0, 0), voxel.float())
    with pytest.raises(ValueError, match="near <= far"):
        soft_mask(voxel, 5, 3)


@pytest.mark.parametrize("box", [32, 33])
def test_an_edge_that_ends_on_the_faces(box: int) -> None:
    """A slab four voxels from a face: there the edge takes all the room, on the other side what was asked for."""
    slab = torch.zeros(box, box, box, dtype=torch.bool)
    slab[4:8, 8:-8, 8:-8] = True
    mask, room = grow_in_box(slab, 2, 8)
    assert room == 4
    line = mask[:, box // 2, box // 2]
    wide = [1, 1, *(0.5 + 0.5 * math.cos(math.pi * t / 6) for t in range(1, 7))]
    assert line[8:16].tolist() == pytest.approx(wide, abs=1e-6)
    # limits of 1 and 4 voxels: 2 and 8 times 4 / 8
    near = [1, *(0.5 + 0.5 * math.cos(math.pi * t / 3) for t in range(1, 4))]
    assert line[:4].flip(0).tolist() == pytest.approx(near, abs=1e-6)
    inner = slab[:, 12:-12, 12:-12]
    assert float(mask[0].max()) == 0 and (mask[:, 12:-12, 12:-12][inner] == 1).all()
    free = torch.zeros(box, box, box, dtype=torch.bool)
    free[14:18, 14:18, 14:18] = True
    mask, room = grow_in_box(free, 2, 8)
    assert torch.equal(mask, soft_mask(free, 2, 8)) and room == min(14, box - 1 - 17)


@pytest.mark.parametrize("far", [15.0, 40.0])
def test_a_density_mask_never_touches_the_box(far: float) -> None:
    """A ball that comes within 4 voxels of one face; where there is room for the edge it is that of anywhere else."""
    box, px = 32, 3.0
    ball = torch.exp(-0.5 * (radius(box).roll(6, 2) / 3) ** 2)
    mask = density_mask(ball, px, 0.3, near=6, far=far, low_pass=6)
    ends = [mask.select(axis, place) for axis in range(3) for place in (0, -1)]
    assert max(float(end.max()) for end in ends) == 0
    assert float(mask[box // 2, box // 2, box // 2 + 6]) == 1
    middle = density_mask(ball.roll(-6, 2), px, 0.3, near=6, far=15, low_pass=6)
    if far == 15:
        assert torch.equal(mask[..., : box // 2 + 6], middle.roll(6, 2)[..., : box // 2 + 6])


def test_density_mask_surrounds_the_density_and_not_the_noise():
    box, px = 48, 3.0
    blob = (radius(box) < 9).float()
    mask = density_mask(blob + 0.5 * noise(box, 0), px, 0.5, near=6, far=15, low_pass=15)
    assert (mask[radius(box) < 9.5] == 1).all()
    assert (mask[radius(box) > 9 + 2 + 5] == 0).all()


def test_density_mask_is_not_led_by_hot_voxels():
    volume = (radius(48) < 9).float()
    clean = density_mask(volume, 3.0, 0.5, near=3, far=9, low_pass=12)
    volume[24, 24, 40] = 60  # about 4 in the low-passed map, whose ball is about 1
    assert low_pass(volume, 3.0, 12).max() > 3
    hot = density_mask(volume, 3.0, 0.5, near=3, far=9, low_pass=12)
    assert (hot - clean).abs().sum() < 0.05 * clean.sum()


@pytest.mark.parametrize("small, kept", [(2, False), (4, True)])
def test_density_mask_keeps_domains_and_ignores_specks_and_corners(small, kept):
    """A ball beside one of radius 6, of a twenty-seventh or of three tenths of its size."""
    box = 48
    z = torch.arange(box)[:, None, None] - box // 2
    large, piece = radius(box) < 6, radius(box).roll(15, 0) < small
    volume = large.float() + piece.float() + 5 * (radius(box) > 36)
    mask = density_mask(volume, 2.0, 0.4, near=2, far=4, low_pass=6)
    both = density_mask(volume, 2.0, 0.4, near=2, far=4, low_pass=6, largest_only=False)
    assert (mask[large] == 1).all() and mask[piece & (z > 10)].max() == kept
    assert (both[large] == 1).all() and both[piece & (radius(box) < 17)].min() == 1
    assert both[radius(box) > 30].max() == 0


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_no_density_is_an_error_not_an_empty_mask(value):
    with pytest.raises(ValueError, match="no positive density"):
        density_mask(torch.full((16, 16, 16), value), 2.0, 0.2, 6, 14, 12)


@pytest.mark.parametrize("seed", range(3))
def test_pure_noise_gives_a_mask_that_is_not_empty(seed):
    assert density_mask(noise(32, seed), 3.0, 0.5, 6, 12, 15).max() == 1


def test_threshold_must_be_a_fraction():
    with pytest.raises(ValueError, match="between 0 and 1"):
        density_mask(noise(16, 0), 3.0, 1.5, 6, 12, 15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_masks_agree_on_cuda():
    blob = (radius(32) < 7).float() + 0.3 * noise(32, 4)
    host = density_mask(blob, 3.0, 0.4, 6, 14, 12)
    assert torch.allclose(density_mask(blob.cuda(), 3.0, 0.4, 6, 14, 12).cpu(), host, atol=1e-5)


def test_density_mask_keeps_all_copies_of_a_symmetric_particle():
    """Two balls of one size that do not touch, as the halves of a D2 particle may be."""
    first, second = (radius(48).roll(shift, 0) < 5 for shift in (12, -12))
    volume = first.float() + second.float()
    volume[24, 24, 40] = 3.0  # and a speck
    mask = density_mask(volume, 2.0, 0.4, near=2, far=4, low_pass=6)
    assert (mask[first] == 1).all() and (mask[second] == 1).all() and mask[24, 24, 40] == 0


@pytest.mark.parametrize("width", [0.0, 1.0, 3.0])
def test_soft_mask_without_an_edge_is_a_ball(width):
    point = torch.zeros(16, 16, 16, dtype=torch.bool)
    point[8, 8, 8] = True
    line = torch.arange(16.0) - 8
    squared = line[:, None, None] ** 2 + line[:, None] ** 2 + line**2
    assert torch.equal(soft_mask(point, width, width), (squared <= width**2).float())


def test_pieces_at_the_faces_of_the_box_and_none_at_all() -> None:
    binary = torch.zeros(12, 12, 12, dtype=torch.bool)
    assert not _large_pieces(binary).any()
    binary[:4, :4, :4] = binary[9:, 9:, 9:] = True  # 64 and 27
    binary[6, 6, 6] = True
    found = _large_pieces(binary)
    assert found.sum() == 64 + 27 and found[0, 0, 0] and found[11, 11, 11] and not found[6, 6, 6]
