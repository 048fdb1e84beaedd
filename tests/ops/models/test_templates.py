"""Projections for picking: against Gaussians in closed form, the filter, the grey scale, what is cut off."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.models.gaussians import gaussian_density
from cryotorch.ops.models.templates import template_images

PIXEL, SIGMA = 3.0, 7.0


def blobs(spread: float = 18) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    position = torch.randn(40, 3, generator=draw) * spread
    return position, 0.5 + torch.rand(40, generator=draw)


def projected(position: Tensor, weight: Tensor, rotation: Tensor, box: int, size: float) -> Tensor:
    """Gaussians project to Gaussians: (n, box, box) line integrals."""
    x = (torch.arange(box) - box // 2) * size
    centre = (position @ rotation.mT)[..., :2]  # (n, blobs, 2)
    lines = torch.exp(-((x - centre[..., None]) ** 2) / (2 * SIGMA**2))  # (n, blobs, 2, box)
    peak = weight / (2 * math.pi * SIGMA**2)
    return torch.einsum("j,njy,njx->nyx", peak, lines[:, :, 1], lines[:, :, 0])


def made(volume: Tensor, rotation: Tensor, box: int, size: float, resolution=None) -> Tensor:
    return torch.cat(
        [images for images, _ in template_images(volume, PIXEL, rotation, box, size, resolution)]
    )


def correlations(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([torch.corrcoef(torch.stack([x, y]))[0, 1] for x, y in zip(a.flatten(1), b.flatten(1), strict=True)])  # fmt: skip


@pytest.mark.parametrize(
    ("old", "box", "size"), [(56, 56, PIXEL), (57, 40, 4.2), (56, 90, 2.5), (56, 30, 5)]
)
def test_gaussians_project_to_gaussians(old: int, box: int, size: float) -> None:
    """In shape and in value: sums over the map's voxels, times the new pixel size by the old."""
    position, weight = blobs()
    volume = gaussian_density(position, weight, torch.full((40,), SIGMA), old, PIXEL)
    rotation = random_rotations(6, torch.Generator().manual_seed(3))
    images, expected = made(volume, rotation, box, size), projected(position, weight, rotation, box, size)  # fmt: skip
    assert correlations(images, expected).min() > 0.9995
    expected *= size / PIXEL / PIXEL
    assert float((images - expected).abs().max()) < 0.02 * float(expected.max())


def test_the_low_pass_is_that_of_maps_whatever_is_left_out_before() -> None:
    """A narrow filter makes the transform smaller; the whole transform gives the same images."""
    draw = torch.Generator().manual_seed(4)
    position, weight = blobs(spread=26)
    volume = gaussian_density(position, weight, torch.full((40,), 3.0), 80, PIXEL)
    rotation = random_rotations(4, draw)
    small = made(volume, rotation, 80, PIXEL, 24)
    whole = made(low_pass(volume, PIXEL, 24), rotation, 80, PIXEL)
    assert correlations(small, whole).min() > 0.9995
    sharp = made(volume, rotation, 80, PIXEL)
    assert correlations(small, sharp).max() < 0.95
    spectrum = torch.fft.rfft2(small).abs() / torch.fft.rfft2(sharp).abs()
    assert float(spectrum[:, 0, 13:20].mean()) < 0.15  # beyond 240 / 24 = 10
    assert spectrum[:, 0, 1:6].sub(1).abs().max() < 0.03


def test_background_of_the_map_does_not_show() -> None:
    position, weight = blobs()
    volume = gaussian_density(position, weight, torch.full((40,), SIGMA), 56, PIXEL)
    rotation = random_rotations(2, torch.Generator().manual_seed(5))
    plain, raised = (made(v, rotation, 80, 2.8) for v in (volume, volume + volume.max()))
    assert torch.allclose(plain, raised, atol=2e-3 * float(plain.max()))


def test_noise_keeps_its_variance_on_another_grid() -> None:
    """White noise of a map: what RELION's picker means by the grey scale of its references."""
    draw = torch.Generator().manual_seed(6)
    noise = torch.randn(48, 48, 48, generator=draw)
    rotation = random_rotations(30, draw)
    (old,), (new,) = (
        [made(noise, rotation, box, size)[:, box // 4 : -box // 4, box // 4 : -box // 4].std()]
        for box, size in ((48, PIXEL), (24, 2 * PIXEL))
    )
    assert float(new / old) == pytest.approx(1, abs=0.1)


def test_what_the_box_cuts_off_is_told() -> None:
    position, weight = blobs()
    volume = gaussian_density(position, weight, torch.full((40,), SIGMA), 56, PIXEL)
    rotation = random_rotations(3, torch.Generator().manual_seed(7))
    for box, size in ((56, PIXEL), (100, 2.0), (56, 2.5)):
        kept = torch.cat([k for _, k in template_images(volume, PIXEL, rotation, box, size)])
        assert kept.sub(1).abs().max() < 5e-3
    whole, cut = (made(volume, rotation, box, PIXEL) for box in (56, 16))
    share = cut.square().sum((1, 2)) / whole.square().sum((1, 2))
    kept = torch.cat([k for _, k in template_images(volume, PIXEL, rotation, 16, PIXEL)])
    assert kept.tolist() == pytest.approx(share.tolist(), rel=1e-3)
    assert kept.max() < 0.9
