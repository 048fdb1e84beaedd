"""The contrast transfer function against tables, closed forms and a second formula in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cryotorch.ops.ctf.transfer import contrast_transfer, delocalisation, wavelength
from cryotorch.ops.fourier.transforms import half_plane


def one(frequency, u=10000.0, v=None, angle=0.0, phase=0.0, kv=300.0, cs=2.7, contrast=0.1):
    """The CTF (m,) of one particle; the angle and phase in radians."""
    v = u if v is None else v
    lens = (torch.tensor([x]) for x in (phase, kv, cs, contrast))
    return contrast_transfer(torch.as_tensor(frequency), torch.tensor([[u, v, angle]]), *lens)[0]


@pytest.mark.parametrize(("kv", "angstrom"), [(100, 0.037014), (200, 0.025079), (300, 0.019687)])
def test_wavelength_is_that_of_the_tables(kv: float, angstrom: float) -> None:
    assert wavelength(torch.tensor(kv, dtype=torch.float64)) == pytest.approx(angstrom, abs=1e-6)


@pytest.mark.parametrize("contrast", [0.0, 0.07, 0.1, 1.0])
def test_origin_has_the_amplitude_contrast(contrast: float) -> None:
    assert one([[0.0, 0.0]], contrast=contrast) == pytest.approx(contrast, abs=1e-6)
    # a phase plate of 90 degrees turns sine into cosine
    turned = one([[0.0, 0.0]], contrast=contrast, phase=math.pi / 2)
    assert turned == pytest.approx(math.sqrt(1 - contrast**2), abs=1e-6)


def test_first_zero_without_aberration() -> None:
    """Without Cs and amplitude contrast the zeros lie where lambda df k^2 is a whole number."""
    lam = 0.0196875
    zeros = torch.tensor(
        [[math.sqrt(n / (lam * 12000)), 0] for n in (1, 2, 3)], dtype=torch.float64
    )
    assert one(zeros, u=12000.0, cs=0.0, contrast=0.0).abs().max() < 1e-3
    between = (zeros[0] + zeros[1]) / 2
    assert one(0.7 * zeros[:1], u=12000.0, cs=0.0, contrast=0.0) > 0.9  # underfocus is positive
    assert one(between[None], u=12000.0, cs=0.0, contrast=0.0) < -0.9


def test_aberration_works_against_underfocus() -> None:
    """At k^2 = 2 df / (Cs lambda^2) both cancel, and only the amplitude contrast is left."""
    lam, df, cs = 0.0196875, 1500.0, 2.7
    k = math.sqrt(2 * df / (cs * 1e7 * lam**2))
    assert one(torch.tensor([[0, k]], dtype=torch.float64), u=df, cs=cs) == pytest.approx(
        0.1, abs=0.01
    )


def test_agrees_with_a_second_formula() -> None:
    """Rohou & Grigorieff's chi with an arctangent per coefficient, relativity from CODATA constants, all in float64."""
    rng = np.random.default_rng(1)
    n = 40
    u = rng.uniform(3000, 40000, n)
    v = u - rng.uniform(0, 3000, n)
    angle, phase = rng.uniform(-np.pi, np.pi, n), rng.uniform(0, np.pi, n)
    kv, cs, contrast = rng.choice([100, 200, 300], n), rng.uniform(0, 3, n), rng.uniform(0, 0.2, n)
    box, pixel = 64, 1.0
    frequency = half_plane(box).frequency / (box * pixel)

    h, m, e, c = 6.62607015e-34, 9.1093837015e-31, 1.602176634e-19, 299792458.0
    energy = e * kv * 1e3
    lam = h * c / np.sqrt(energy * (energy + 2 * m * c**2)) * 1e10
    kx, ky = frequency.double().numpy().T
    k2 = kx**2 + ky**2
    bend = np.cos(2 * (np.arctan2(ky, kx) - angle[:, None]))
    df = ((u + v)[:, None] + (u - v)[:, None] * bend) / 2
    lam = lam[:, None]
    bent, aberrant = np.pi * lam * df * k2, np.pi / 2 * (cs * 1e7)[:, None] * lam**3 * k2**2
    expected = np.sin(bent - aberrant + phase[:, None] + np.arcsin(contrast)[:, None])

    column = [torch.from_numpy(np.asarray(x, dtype=np.float32)) for x in (phase, kv, cs, contrast)]
    defocus = torch.from_numpy(np.stack([u, v, angle], 1))
    found = contrast_transfer(frequency, defocus, *column)
    assert found.dtype == torch.float32 and found.shape == (n, len(k2))
    # RELION's constant of the wavelength, which ours is, differs from CODATA's by 5e-6
    error = np.abs(found.numpy() - expected)
    assert error.max() < 0.01
    assert (error / (1 + np.abs(bent) + np.abs(aberrant))).max() < 1e-5


def test_symmetric_aberrations_are_taken_from_the_phase() -> None:
    """In focus and without Cs only the two phases are left: sin(asin(contrast) - symmetric)."""
    frequency = half_plane(16).frequency[:20] / 48
    symmetric = torch.linspace(-3, 3, 40).view(2, 20)
    lens = (torch.tensor([x, x]) for x in (0.0, 300.0, 0.0, 0.2))
    found = contrast_transfer(frequency, torch.zeros(2, 3), *lens, symmetric)
    assert torch.allclose(found, torch.sin(math.asin(0.2) - symmetric), atol=1e-6)


def test_frequencies_may_differ_between_images() -> None:
    plane = half_plane(16).frequency / 48
    frequency = torch.stack([plane, 1.1 * plane.flip(1), -0.9 * plane])
    defocus = torch.tensor([[12000.0, 9000, 0.4], [8000, 8500, -1], [20000, 15000, 2]])
    lens = [torch.tensor(x) for x in ([0.1, 0, 0.3], [300.0, 200, 100], [2.7, 2, 0], [0.1, 0, 0.2])]
    found = contrast_transfer(frequency, defocus, *lens)
    for i in range(3):
        one = slice(i, i + 1)
        alone = contrast_transfer(frequency[i], defocus[one], *(x[one] for x in lens))
        assert torch.allclose(found[one], alone, atol=1e-6)


def test_delocalisation_is_the_slope_of_the_phase() -> None:
    """d chi / dk = 2 pi lambda df k, of the mean defocus, whatever its sign."""
    defocus = torch.tensor([[12000.0, 10000.0, 0.3], [-7000.0, -9000.0, 1.0]])
    found = delocalisation(defocus, torch.tensor([300.0, 200.0]))
    assert found.tolist() == pytest.approx([0.019687 * 11000, 0.025079 * 8000], rel=1e-4)


def test_the_astigmatism_axis_is_that_of_u() -> None:
    along = torch.tensor([[0.08, 0.0], [0.0, 0.08]])
    found = one(along, u=12000.0, v=9000.0, angle=0.0)
    assert found[0] == pytest.approx(float(one(along[:1], u=12000.0)), abs=1e-5)
    assert found[1] == pytest.approx(float(one(along[:1], u=9000.0)), abs=1e-5)
    frequency = half_plane(32).frequency / 96
    swapped = one(frequency, u=9000.0, v=12000.0, angle=0.4 + math.pi / 2)
    assert torch.allclose(one(frequency, u=12000.0, v=9000.0, angle=0.4), swapped, atol=1e-5)
    half_turn = one(frequency, u=12000.0, v=9000.0, angle=0.4 + math.pi)
    assert torch.allclose(one(frequency, u=12000.0, v=9000.0, angle=0.4), half_turn, atol=1e-5)
