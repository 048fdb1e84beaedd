"""One recipe for sharpened maps: the decay that was put in is taken out, a given B-factor is applied exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cryotorch.findings import codes
from cryotorch.ops.fourier.filters import filter_shells, radial_amplitude
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.sharpening import fit_doubts, inner_sphere, refused, sharpened
from cryotorch.results import Guinier

BOX, PIXEL = 64, 1.5
SHELL = torch.arange(BOX // 2 + 1) / (BOX * PIXEL)
WHOLE, ONES = torch.ones(BOX, BOX, BOX), torch.ones(BOX // 2 + 1)


def decayed(bfactor: float) -> torch.Tensor:
    """Twice one map of white amplitudes that fall by exp(-B k^2 / 4)."""
    draw = torch.Generator().manual_seed(3)
    white = torch.randn(BOX, BOX, BOX, generator=draw)
    return filter_shells(white, torch.exp(-bfactor / 4 * SHELL**2)).expand(2, -1, -1, -1)


def gain(one: torch.Tensor, other: torch.Tensor, shell: int) -> float:
    return float(radial_amplitude(one)[shell] / radial_amplitude(other)[shell])


def test_the_decay_of_the_amplitudes_is_found_and_undone() -> None:
    sharp = sharpened(decayed(90.0), PIXEL, WHOLE, ONES, 3.2)
    assert sharp.fit.bfactor == sharp.fit.applied
    assert sharp.fit.bfactor == pytest.approx(-90, abs=4)
    flat = radial_amplitude(sharp.map)[6:24]  # up to 4 Å; the low-pass begins there
    assert float(flat.max() / flat.min()) < 1.3


def test_a_given_b_factor_is_applied_and_the_fit_still_told() -> None:
    maps = decayed(90.0)
    plain = sharpened(maps, PIXEL, WHOLE, ONES, 3.2, bfactor=0.0)
    sharp = sharpened(maps, PIXEL, WHOLE, ONES, 3.2, bfactor=-50.0)
    assert (plain.fit.applied, sharp.fit.applied) == (0.0, -50.0)
    assert sharp.fit.bfactor == plain.fit.bfactor == pytest.approx(-90, abs=4)
    for shell in (8, 16, 24):
        expected = math.exp(50 / 4 * float(SHELL[shell]) ** 2)
        assert gain(sharp.map, plain.map, shell) == pytest.approx(expected, rel=0.02)


def test_shells_weigh_as_their_fsc_says() -> None:
    """sqrt(2 F / (1 + F)), once: at an FSC of 0.5 it is 0.816."""
    maps = decayed(0.0)
    half = torch.where(torch.arange(BOX // 2 + 1) < 12, 1.0, 0.5)
    one, other = (sharpened(maps, PIXEL, WHOLE, curve, 3.2, 0.0) for curve in (half, ONES))
    assert gain(one.map, other.map, 18) == pytest.approx(math.sqrt(2 / 3), rel=0.01)
    assert gain(one.map, other.map, 8) == pytest.approx(1, rel=0.01)


def test_where_nothing_is_claimed_nothing_is_fitted() -> None:
    sharp = sharpened(decayed(90.0), PIXEL, WHOLE, ONES, 3.2, claims=False)
    assert (sharp.fit.bfactor, sharp.fit.error, sharp.fit.applied) == (None, None, 0.0)
    assert sharp.fit.reason.code == "nothing_claimed"


def test_corners_hold_nothing() -> None:
    sphere = soft_sphere(BOX, 0.95 * BOX / 2, 0.05 * BOX / 2)
    torch.testing.assert_close(inner_sphere(WHOLE), sphere)
    assert sharpened(decayed(0.0), PIXEL, WHOLE, ONES, 3.2).map[sphere == 0].abs().max() == 0


def test_doubts_about_a_b_factor() -> None:
    shells = torch.arange(33)

    def fit(bfactor: float | None, shells_used: int = 15) -> Guinier:
        used = (shells >= 10) & (shells < 10 + shells_used)
        return Guinier((shells / 96.0) ** 2, 0.0 * shells, used, bfactor, 0.0)

    assert fit_doubts(fit(-100.0)) == fit_doubts(fit(None)) == []
    (few,) = fit_doubts(fit(-100.0, 7))
    assert few.values == pytest.approx(dict(shells=7, coarse=9.6, fine=6.0))
    (steep,) = fit_doubts(fit(-1500.0))
    assert steep.code == "steep" and steep.values == dict(limit=-1000.0)
    assert codes(fit_doubts(fit(-1500.0, 7))) == ["few_shells", "steep"]
    vague = replace(fit(-100.0), error=51.0)
    assert codes(fit_doubts(vague)) == ["undetermined"]
    assert fit_doubts(replace(vague, error=49.0)) == []
    gone = refused(replace(fit(-100.0), error=3.0))
    assert (gone.bfactor, gone.error, gone.reason.code) == (None, None, "nothing_claimed")
