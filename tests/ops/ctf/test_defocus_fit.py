"""Defocus of single images: against the CTF itself, brute force, and the scatter of many draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cryotorch.ops.ctf.defocus_fit import (
    CtfTerms,
    defocus_basis,
    defocus_grid,
    defocus_profile,
    fit_defocus,
    from_form,
    prior_evidence,
    prior_widths,
    stretched,
    to_form,
)
from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier.transforms import half_plane

BOX, PIXEL = 64, 1.5
PLANE = half_plane(BOX)
FREQUENCY = PLANE.frequency[PLANE.count(5) :] / (BOX * PIXEL)
VOLTAGE = torch.tensor(300.0)
LENS = (torch.tensor([300.0]), torch.tensor([2.7]), torch.tensor([0.1]))


def ctf(defocus: Tensor, frequency: Tensor = FREQUENCY, turn: float = 0.0) -> Tensor:
    n = len(defocus)
    lens = (value.expand(n) for value in LENS)
    return contrast_transfer(frequency, defocus, torch.full((n,), turn), *lens)


def chi(defocus: Tensor) -> Tensor:
    return torch.atan2(ctf(defocus), ctf(defocus, turn=math.pi / 2))


def draw(n: int, change: Tensor, snr: float, seed: int = 0) -> CtfTerms:
    """Terms of images of white slices with the CTF of a defocus that is off by ``change`` (n, 3), as ``to_form`` has it."""
    g = torch.Generator().manual_seed(seed)
    u = 8000 + 10000 * torch.rand(n, generator=g)
    given = torch.stack([u, u - 300 * torch.rand(n, generator=g), torch.rand(n, generator=g)], 1)
    true = from_form(to_form(given.double()) + change).float()
    power = snr * (0.5 + torch.rand(n, len(FREQUENCY), generator=g))
    noise = (0.5 * power).sqrt() * torch.randn(power.shape, generator=g)
    return CtfTerms(power * ctf(true) + noise, power, chi(given))


def test_the_form_is_linear_in_the_phase() -> None:
    given = torch.tensor([[12000.0, 11500.0, 0.4]], dtype=torch.float64)
    change = torch.tensor([[150.0, -40.0, 60.0]], dtype=torch.float64)
    basis = defocus_basis(FREQUENCY.double(), VOLTAGE)
    moved = torch.sin(chi(given) + change @ basis.T)
    expected = ctf(from_form(to_form(given) + change))
    torch.testing.assert_close(moved.float(), expected, atol=2e-4, rtol=0)


def test_form_and_back() -> None:
    given = torch.tensor([[12000.0, 11500.0, 3.0], [9000.0, 9000.0, 0.0]])
    torch.testing.assert_close(from_form(to_form(given)), given)
    swapped = torch.tensor([[11500.0, 12000.0, 3.0 - math.pi / 2]])
    torch.testing.assert_close(from_form(to_form(swapped)), given[:1])


def test_a_stretched_defocus_keeps_the_phase_in_the_image() -> None:
    """Without Cs: of k^4 only the size would change."""
    given = torch.tensor([[12000.0, 11500.0, 0.4]], dtype=torch.float64)
    stretch = torch.tensor([[1.01, 0.004], [-0.002, 0.99]], dtype=torch.float64)
    k = FREQUENCY.double()
    before = to_form(given) @ defocus_basis(k, VOLTAGE).T
    after = stretched(to_form(given), stretch[None]) @ defocus_basis(k @ stretch.T, VOLTAGE).T
    torch.testing.assert_close(after, before, rtol=1e-9, atol=0)


def test_profile_against_brute_force() -> None:
    terms = draw(3, torch.zeros(3, 3), 0.1)
    basis = defocus_basis(FREQUENCY, VOLTAGE)
    grid = defocus_grid(basis, 1500)
    assert float(basis[:, 0].max()) * float(grid[1] - grid[0]) < 0.51
    profile = defocus_profile(terms, basis, grid)
    for place in (0, len(grid) // 3, len(grid) // 2):
        sine = torch.sin(terms.chi + grid[place] * basis[:, 0])
        score = (terms.cross * sine - 0.5 * terms.power * sine**2).sum(1)
        torch.testing.assert_close(profile[:, place], score, atol=0.3, rtol=0.01)


@pytest.mark.parametrize("astigmatism", [False, True])
def test_errors_match_the_scatter(astigmatism: bool) -> None:
    """Drawn from the prior, the errors of all parameters are as large as their standard errors say."""
    n, spread = 600, 120.0
    change = spread * torch.randn(n, 3, generator=torch.Generator().manual_seed(3)).double()
    if not astigmatism:
        change[:, 1:] = 0
    terms = draw(n, change, 0.15)
    fit = fit_defocus(
        terms, defocus_basis(FREQUENCY, VOLTAGE), 1000, [spread] * (3 if astigmatism else 1)
    )
    assert not fit.at_end.any()
    score = (fit.change.double() - change[:, : fit.change.shape[1]]) / fit.sigma.double()
    assert score.std(0).tolist() == pytest.approx([1.0] * score.shape[1], abs=0.12)
    assert float(fit.sigma.median()) < 0.5 * spread


def test_noise_stays_near_the_prior() -> None:
    terms = draw(200, torch.zeros(200, 3), 1e-4)
    fit = fit_defocus(terms, defocus_basis(FREQUENCY, VOLTAGE), 2000, [50.0])
    assert float(fit.change.abs().max()) < 100
    assert float(fit.sigma.median()) == pytest.approx(50, rel=0.2)


def test_the_spread_of_the_errors_is_found() -> None:
    change = torch.zeros(400, 3)
    change[:, 0] = 200 * torch.randn(400, generator=torch.Generator().manual_seed(1))
    terms, basis = draw(400, change, 0.1), defocus_basis(FREQUENCY, VOLTAGE)
    grid, widths = defocus_grid(basis, 2000), prior_widths(2000)
    evidence = prior_evidence(defocus_profile(terms, basis, grid), grid, widths)
    assert float(widths[evidence.argmax()]) == pytest.approx(200, rel=0.25)
