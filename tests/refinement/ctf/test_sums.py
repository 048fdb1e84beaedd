"""Aberrations from sums that were made with known ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cryotorch.ops.ctf.aberration_fit import EVEN, ODD, monomials
from cryotorch.particles import Optics, unposed
from cryotorch.refinement.ctf.sums import (
    CtfSums,
    empty_sums,
    even_names,
    odd_names,
    once_per_image,
    solve_groups,
)
from cryotorch.refinement.settings import CtfTargets

DRAW = torch.Generator().manual_seed(4)
K = (torch.rand(800, 2, generator=DRAW).double() - 0.5) / 3  # up to 6 Å or so
WHAT = CtfTargets(20.0, spherical=True, tetra=True, anisomag=True)


def particles(n: int = 12, groups: int = 2):
    optics = Optics(*(torch.full((groups,), v) for v in (300.0, 2.7, 0.1, 1.0)))
    return unposed(n, optics).replace(optics_group=torch.arange(n) % groups)


def filled(what: CtfTargets = WHAT, weight: float = 1e4) -> CtfSums:
    """Of the second group the phases of an odd and an even function; the first one has no particles."""
    sums = empty_sums(particles(), what, len(K), None)
    sums.count[:] = torch.tensor([0, 12])
    odd = monomials(K, [ODD["tilt"], ODD["trefoil"]]) @ torch.tensor([30.0, -20, 8, 5]).double()
    even = monomials(K, [EVEN["spherical"]]) @ torch.tensor([50.0]).double()
    sums.odd_cross[1] = torch.view_as_real(weight * torch.polar(torch.ones(len(K)).double(), -odd))
    sums.odd_power[1] = sums.even_power[1] = weight
    sums.even_slope[1] = weight * even
    sums.magnification_normal[:] = torch.eye(3)
    sums.magnification_gradient[1] = torch.tensor([0.01, 0.004, -0.002])
    return sums


def test_the_phases_that_were_put_in_are_found() -> None:
    empty, found = solve_groups(filled(), WHAT, [K, K])
    assert (empty.particles, empty.values) == (0, {}) and found.particles == 12
    assert found.unknown == []
    expected = dict(tilt=[30, -20], trefoil=[8, 5], shift=[0, 0], spherical=[50])
    for name, values in expected.items():
        assert found.values[name].tolist() == pytest.approx(values, abs=0.3), name
    for name in ("tetrafoil", "secondary_astigmatism", "astigmatism"):
        assert float(found.values[name].abs().max()) < 0.3, name
    torch.testing.assert_close(found.odd.measured.angle(), found.odd.fitted, atol=2e-3, rtol=0)
    # the mean scale belongs to the map
    assert found.values["magnification"].tolist() == pytest.approx([0, 0.004, -0.002], abs=1e-6)


def test_errors_fall_with_the_root_of_the_power() -> None:
    _, much = solve_groups(filled(weight=1e4), WHAT, [K, K])
    _, little = solve_groups(filled(weight=1e2), WHAT, [K, K])
    for name in ("tilt", "trefoil", "spherical"):
        ratio = little.sigma[name] / much.sigma[name]
        assert ratio.tolist() == pytest.approx([10] * len(ratio), rel=1e-3), name


def test_what_the_data_do_not_tell_stays_zero() -> None:
    """A phase with a standard error of more than a radian at the limit."""
    _, found = solve_groups(filled(weight=1e-6), WHAT, [K, K])
    assert {"tilt", "trefoil", "spherical"} <= set(found.unknown)
    assert all(float(found.values[name].abs().max()) == 0 for name in found.unknown)


def test_names_follow_the_switches() -> None:
    assert odd_names(CtfTargets(9.0)) == ["shift", "tilt", "trefoil"]
    assert odd_names(CtfTargets(9.0, tilt=False)) == ["trefoil"]
    assert even_names(CtfTargets(9.0)) == [] and even_names(CtfTargets(9.0, spherical=True)) == [
        "spherical"
    ]
    own = CtfTargets(9.0, tetra=True, astigmatism="particle")
    assert "astigmatism" in even_names(replace(own, astigmatism="none"))
    assert "astigmatism" not in even_names(own)


def test_copies_of_an_image_count_once() -> None:
    """Each of three images four times: a quarter of the sums of groups and micrographs, and all of the particles'."""
    micrograph = torch.arange(12) % 3
    one = particles(12, 1).replace(address=torch.stack([0 * micrograph, micrograph], 1))
    sums = empty_sums(one, WHAT, len(K), micrograph)
    for tensor in sums.tensors():
        tensor += 8.0
    once = once_per_image(sums, one, micrograph)
    for name in ("odd_cross", "odd_power", "even_slope", "even_coupled", "magnification_normal"):
        assert torch.unique(getattr(once, name)).tolist() == [2.0], name
    assert torch.unique(once.astigmatism_gradient).tolist() == [2.0]
    for name in ("change", "sigma", "count"):
        assert torch.equal(getattr(once, name), getattr(sums, name)), name
    assert once_per_image(sums, particles(12, 1), micrograph) is sums
