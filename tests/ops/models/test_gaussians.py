"""Sums of Gaussians against the formula, point by point, and against each other."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.fourier.transforms import fft_volume
from cryotorch.ops.models.gaussians import bfactor_to_sigma, gaussian_density


def formula(position, weight, sigma, box: int, pixel_size: float) -> torch.Tensor:
    line = (torch.arange(box, dtype=torch.float64) - box // 2) * pixel_size
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    r2 = sum((c - p) ** 2 for c, p in zip((x, y, z), position, strict=True))
    return weight * (2 * math.pi * sigma**2) ** -1.5 * torch.exp(-r2 / (2 * sigma**2))


@pytest.mark.parametrize("box", [24, 25])
def test_one_wide_gaussian_is_the_formula(box: int) -> None:
    position, weight, sigma = (2.3, -4.1, 1.0), 2.5, 2.7
    map_ = gaussian_density(
        torch.tensor([position]), torch.tensor([weight]), torch.tensor([sigma]), box, 1.5
    )
    expected = formula(position, weight, sigma, box, 1.5)
    assert map_.shape == (box,) * 3
    assert torch.allclose(map_.double(), expected, atol=1e-4 * float(expected.max()))


def test_a_narrow_gaussian_has_its_analytic_transform_up_to_nyquist() -> None:
    """exp(-2 pi^2 sigma^2 k^2): sampled on the coarse grid it would alias by a third at Nyquist."""
    box, pixel_size, sigma = 32, 3.0, 1.3
    map_ = gaussian_density(
        torch.zeros(1, 3), torch.tensor([7.0]), torch.tensor([sigma]), box, pixel_size
    )
    k = torch.arange(box // 2) / (box * pixel_size)
    measured = fft_volume(map_)[0, 0, : box // 2] * pixel_size**3
    assert torch.allclose(measured.real, 7 * torch.exp(-2 * (math.pi * sigma * k) ** 2), atol=2e-3)
    assert float(measured.imag.abs().max()) < 1e-3


def test_density_adds_up_and_its_integral_is_the_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    position = 16 * torch.rand(50, 3, generator=generator) - 8
    weight = torch.rand(50, generator=generator) + 1
    sigma = bfactor_to_sigma(20 + 200 * torch.rand(50, generator=generator))
    whole = gaussian_density(position, weight, sigma, 40, 1.0)
    assert float(whole.sum()) == pytest.approx(float(weight.sum()), rel=1e-4)
    parts = [gaussian_density(position[i::2], weight[i::2], sigma[i::2], 40, 1.0) for i in (0, 1)]
    # the two halves may work on grids of different fineness
    assert torch.allclose(whole, sum(parts), atol=2e-3 * float(whole.max()))


def test_atoms_beyond_the_box_are_left_out_and_do_not_wrap() -> None:
    position = torch.tensor([[0.0, 0, 0], [500.0, 0, 0], [17.0, 0, 0]])
    map_ = gaussian_density(position, torch.ones(3), torch.full((3,), 1.5), 32, 1.0)
    alone = gaussian_density(position[:1], torch.ones(1), torch.full((1,), 1.5), 32, 1.0)
    assert torch.allclose(map_[:, :, :10], alone[:, :, :10], atol=1e-6)
    assert float(map_[16, 16, 31]) > 10 * float(alone[16, 16, 31])


def test_bfactor_of_79_is_one_angstrom() -> None:
    assert float(bfactor_to_sigma(torch.tensor(8 * math.pi**2))) == pytest.approx(1.0)


def test_too_narrow_or_no_atoms_are_refused() -> None:
    with pytest.raises(ValueError, match="eighth of the pixel"):
        gaussian_density(torch.zeros(1, 3), torch.ones(1), torch.tensor([0.1]), 16, 2.0)
    with pytest.raises(ValueError, match="at least one atom"):
        gaussian_density(torch.zeros(0, 3), torch.ones(0), torch.ones(0), 16, 2.0)
