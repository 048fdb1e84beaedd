"""Aberrations of optics groups: the conversion to RELION's coefficients, and values within their errors."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.ctf import aberration_fit as fit
from cryotorch.ops.ctf.aberrations import antisymmetric_phase, symmetric_phase
from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier.transforms import half_plane

PLANE = half_plane(64)
K = (PLANE.frequency[PLANE.count(6) :] / (64 * 1.5)).double()
VOLTAGE, CS = torch.tensor([300.0]).double(), torch.tensor([2.7]).double()


def draw_pair(seed: int, size: float) -> torch.Tensor:
    return size * torch.randn(2, generator=torch.Generator().manual_seed(seed)).double()


def test_odd_monomials_are_the_zernike_terms() -> None:
    parts = {name: draw_pair(i, 10.0) for i, name in enumerate(fit.ODD)}
    phase = fit.monomials(K, list(fit.ODD.values())) @ torch.cat(list(parts.values()))
    zernike = fit.odd_zernike(parts)[None]
    torch.testing.assert_close(antisymmetric_phase(K, None, zernike, VOLTAGE, CS)[0], phase)


def test_even_monomials_are_the_zernike_terms() -> None:
    parts = {name: draw_pair(i, 10.0) for i, name in enumerate(fit.EVEN) if name != "spherical"}
    orders = [fit.EVEN[name] for name in parts]
    phase = fit.monomials(K, orders) @ torch.cat(list(parts.values()))
    torch.testing.assert_close(symmetric_phase(K, fit.even_zernike(parts)[None])[0], phase)


def test_tilt_is_that_of_the_files() -> None:
    tilt = torch.tensor([[0.7, -0.3]]).double()
    expected = antisymmetric_phase(K, tilt, None, VOLTAGE, CS)[0]
    phase = fit.monomials(K, [fit.ODD["tilt"]]) @ (tilt[0] * fit.tilt_factor(300, 2.7))
    torch.testing.assert_close(phase, expected)


def test_spherical_is_a_change_of_cs() -> None:
    """sin(chi - phase) with the phase of 0.1 mm is the CTF of 2.8 mm."""
    rest = (torch.tensor([[10000.0, 10000.0, 0.0]]).double(), torch.zeros(1).double(), VOLTAGE)
    contrast = torch.tensor([0.1]).double()
    phase = fit.spherical_factor(300) * 0.1 * K.square().sum(1) ** 2
    moved = contrast_transfer(K, *rest, CS, contrast, phase[None])
    torch.testing.assert_close(moved, contrast_transfer(K, *rest, CS + 0.1, contrast))


@pytest.mark.parametrize("strength", [1.0, 12.0])
def test_odd_phases_within_their_errors(strength: float) -> None:
    """Also phases of several turns at the rim, which grow from the middle; errors match the scatter of 60 draws."""
    basis, radius = fit.monomials(K, list(fit.ODD.values())), K.norm(dim=1)
    true = strength * torch.tensor([0.05, -0.1, 20.0, 12.0, -8.0, 5.0]).double()
    power = 30 * torch.exp(-60 * radius**2)
    scores = []
    for seed in range(60):
        g = torch.Generator().manual_seed(seed)
        noise = torch.randn(2, len(K), generator=g).double() * (0.5 * power).sqrt()
        cross = power * torch.polar(torch.ones_like(power), -basis @ true) + torch.complex(*noise)
        # a grey scale that is wrong changes neither values nor errors
        found = fit.fit_odd(1.7 * cross, 1.7**2 * power, basis, radius)
        scores.append((found.value - true) / found.sigma)
    spread = torch.stack(scores).square().mean(0).sqrt()
    assert spread.tolist() == pytest.approx([1.0] * 6, abs=0.3)


def test_linear_step() -> None:
    normal = torch.tensor([[4.0e6, 1.0], [1.0, 1.0e-6]]).double()
    value = torch.tensor([3.0e-3, 2.0e3]).double()
    found = fit.fit_linear(normal @ value, normal)
    torch.testing.assert_close(found.value, value)
    torch.testing.assert_close(found.sigma, (0.5 * torch.linalg.inv(normal).diagonal()).sqrt())
