"""Zernike terms and beam tilt against the closed forms of RELION's conventions."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.ctf.aberrations import (
    antisymmetric_phase,
    even_order,
    odd_order,
    symmetric_phase,
    zernike,
)

K = 0.25 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
R, PHI = K.norm(dim=1), torch.atan2(K[:, 1], K[:, 0])


def test_order_of_the_coefficients_is_that_of_the_files():
    assert [even_order(i) for i in range(9)] == [
        *((0, 0), (-2, 2), (0, 2), (2, 2)),
        *((-4, 4), (-2, 4), (0, 4), (2, 4), (4, 4)),
    ]
    assert [odd_order(i) for i in range(6)] == [(-1, 1), (1, 1), (-3, 3), (-1, 3), (1, 3), (3, 3)]
    assert odd_order(6) == (-5, 5)


@pytest.mark.parametrize(
    ("m", "n", "closed"),
    [
        (0, 0, lambda r, a: torch.ones_like(r)),
        (1, 1, lambda r, a: r * a.cos()),
        (-1, 1, lambda r, a: r * a.sin()),
        (0, 2, lambda r, a: 2 * r**2 - 1),
        (-2, 2, lambda r, a: r**2 * (2 * a).sin()),
        (1, 3, lambda r, a: (3 * r**3 - 2 * r) * a.cos()),
        (-3, 3, lambda r, a: r**3 * (3 * a).sin()),
        (0, 4, lambda r, a: 6 * r**4 - 6 * r**2 + 1),
        (2, 4, lambda r, a: (4 * r**4 - 3 * r**2) * (2 * a).cos()),
        (-4, 4, lambda r, a: r**4 * (4 * a).sin()),
    ],
)
def test_zernike_functions(m, n, closed):
    assert torch.allclose(zernike(K, m, n), closed(R, PHI), rtol=1e-10, atol=1e-12)


def test_sums_of_terms_differ_between_images():
    even = torch.tensor([[0.0, 0, 0, 2.0], [1.0, 0, 0, 0]], dtype=torch.float64)
    phase = symmetric_phase(K, even)
    assert torch.allclose(phase[0], 2 * R**2 * (2 * PHI).cos())
    assert torch.allclose(phase[1], torch.ones_like(R))


def test_beam_tilt_is_coma():
    """-2 pi Cs lambda^2 k^2 k.t, and the same as (1,3) and (1,1) Zernike terms: k^3 cos = (Z13 + 2 Z11) / 3."""
    kv, cs = torch.tensor([300.0], dtype=torch.float64), torch.tensor([2.7], dtype=torch.float64)
    tilt = torch.tensor([[1.0, -0.6]], dtype=torch.float64)
    found = antisymmetric_phase(K, tilt, None, kv, cs)[0]
    lam = 0.01968748
    factor = -2 * math.pi * 2.7e7 * lam**2 * 1e-3
    assert torch.allclose(found, factor * R**2 * (K @ tilt[0]), rtol=1e-4)
    x, y = (factor * tilt[0]).tolist()
    odd = torch.tensor([[2 * y / 3, 2 * x / 3, 0, y / 3, x / 3, 0]], dtype=torch.float64)
    assert torch.allclose(antisymmetric_phase(K, None, odd, kv, cs)[0], found, rtol=1e-4)
    assert torch.allclose(antisymmetric_phase(-K, tilt, odd, kv, cs)[0], -2 * found, rtol=1e-4)


def test_frequencies_may_differ_between_images():
    """As under an anisotropic magnification of each optics group."""
    frequency = torch.stack([K, 1.1 * K.flip(1), -0.9 * K])
    draw = torch.Generator().manual_seed(1)
    tilt, odd, even = (torch.randn(3, n, generator=draw, dtype=torch.float64) for n in (2, 6, 9))
    kv, cs = torch.tensor([300.0, 200, 100]).double(), torch.tensor([2.7, 2.0, 1.2]).double()
    phase = antisymmetric_phase(frequency, tilt, odd, kv, cs)
    symmetric = symmetric_phase(frequency, even)
    for i in range(3):
        one = slice(i, i + 1)
        alone = antisymmetric_phase(frequency[i], tilt[one], odd[one], kv[one], cs[one])
        assert torch.allclose(phase[one], alone, rtol=1e-12)
        assert torch.allclose(symmetric[one], symmetric_phase(frequency[i], even[one]), rtol=1e-12)


def test_nothing_turns_nothing():
    lens = torch.tensor([300.0]), torch.tensor([2.7])
    assert float(antisymmetric_phase(K.float(), None, None, *lens).abs().max()) == 0
