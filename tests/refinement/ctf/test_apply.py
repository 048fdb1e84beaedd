"""Values found are added to those of the input, in the units of the files."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.ctf.aberration_fit import tilt_factor
from cryotorch.ops.ctf.aberrations import antisymmetric_phase
from cryotorch.particles import Optics
from cryotorch.refinement.ctf.apply import changed
from cryotorch.refinement.ctf.sums import GroupFit

K = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double() / 8


def lens(cs: float, **more) -> Optics:
    return Optics(*(torch.tensor([v, v]) for v in (300.0, cs, 0.1, 1.0)), **more)


def fit(**values: list[float]) -> GroupFit:
    return GroupFit(9, {n: torch.tensor(v).double() for n, v in values.items()}, {}, [])


def phase(optics: Optics, g: int) -> torch.Tensor:
    rows = (optics.beam_tilt, optics.odd_zernike, optics.voltage_kv, optics.spherical_aberration)
    rows = [None if row is None else row[g : g + 1].double() for row in rows]
    return antisymmetric_phase(K, *rows)[0]


@pytest.mark.parametrize("cs", [2.7, 0.01])
def test_a_coma_is_added_as_tilt_or_without_cs_as_zernike_terms(cs: float) -> None:
    before = lens(cs, odd_zernike=torch.randn(2, 6), beam_tilt=torch.tensor([[0.1, 0.2]] * 2))
    after = changed(before, 1, fit(tilt=[30.0, -20.0]))
    k2 = K.square().sum(1)
    expected = phase(before, 1) + k2 * (30 * K[:, 0] - 20 * K[:, 1])
    torch.testing.assert_close(phase(after, 1), expected, atol=1e-4, rtol=1e-4)
    if cs < 0.1:
        assert torch.equal(after.beam_tilt, before.beam_tilt)
    else:
        change = (after.beam_tilt - before.beam_tilt)[1] * tilt_factor(300, cs)
        assert change.tolist() == pytest.approx([30, -20], rel=1e-4)
    for field in ("beam_tilt", "odd_zernike"):
        assert torch.equal(getattr(after, field)[0], getattr(before, field)[0])


def test_a_new_cs_leaves_the_phase_of_the_tilt() -> None:
    before = lens(2.7, beam_tilt=torch.tensor([[1.0, 0.0]] * 2))
    after = changed(before, 0, fit(tilt=[0.0, 0.0], spherical=[50.0]))
    assert float(after.spherical_aberration[0]) > 2.75
    torch.testing.assert_close(phase(after, 0), phase(before, 0), atol=1e-5, rtol=1e-5)


def test_longer_and_shorter_lists_of_coefficients() -> None:
    for size in (2, 12):
        before = lens(2.7, odd_zernike=torch.ones(2, size))
        after = changed(before, 0, fit(trefoil=[3.0, 5.0])).odd_zernike
        assert after.shape == (2, max(size, 6))
        ones = [1.0 if i < size else 0.0 for i in range(max(size, 6))]
        ones[2], ones[5] = ones[2] + 5, ones[5] + 3
        assert after[0].tolist() == ones


def test_magnification_is_applied_after_the_old_one() -> None:
    old = torch.tensor([[[1.0, 0.1], [0.0, 1.0]]] * 2)
    after = changed(lens(2.7, magnification=old), 1, fit(magnification=[0.0, 0.01, 0.02]))
    stretch = torch.tensor([[1.01, 0.02], [0.02, 0.99]])
    torch.testing.assert_close(after.magnification[1], stretch @ old[1])
    assert torch.equal(after.magnification[0], old[0])
