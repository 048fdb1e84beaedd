"""Ewald sphere: flat where it should be, the adjoint of the image it stands for, heights as a defocus, Friedel's law."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.ctf.transfer import wavelength
from cryotorch.ops.fourier.ewald import ewald_height, insert_curved_
from cryotorch.ops.fourier.slices import (
    accumulator,
    dense,
    extract_slices,
    insert_slices_,
    projector,
)
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations

BOX, COUNT = 16, 5


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(limit: float = BOX / 2, count: int = COUNT) -> dict[str, torch.Tensor]:
    """Random spectra, wave fronts, precisions, rotations and frequencies."""
    plane = half_plane(BOX)
    frequency = plane.frequency[: plane.count(limit)]
    shape = count, len(frequency)
    return {
        "spectrum": torch.complex(draw(*shape, seed=1), draw(*shape, seed=2)),
        "wave": torch.polar(draw(*shape, seed=3).abs(), 3 * draw(*shape, seed=4)),
        "precision": draw(*shape, seed=5).square(),
        "rotation": random_rotations(count, torch.Generator().manual_seed(6)),
        "frequency": frequency,
    }


def test_the_height_is_that_of_the_sphere() -> None:
    """1/lambda - sqrt(1/lambda^2 - k^2) to second order; 300 kV at 2 Å: 0.0197 Å / 8 Å^2."""
    frequency = torch.tensor([[0.3, 0.4], [0.1, 0.0]], dtype=torch.float64)
    voltage = torch.tensor([300.0, 100.0], dtype=torch.float64)
    height = ewald_height(frequency, voltage)
    radius = 1 / wavelength(voltage)[:, None]
    exact = radius - (radius**2 - frequency.square().sum(1)).sqrt()
    assert torch.allclose(height, exact, rtol=1e-3)
    assert float(height[0, 0]) == pytest.approx(0.019687 / 8, rel=1e-3)


def test_without_height_it_is_the_ordinary_insertion() -> None:
    """sin(chi) w y and sin^2(chi) w in the sum of both places, to rounding."""
    world = images()
    curved, flat = accumulator(BOX, 2), accumulator(BOX, 2)
    gain = world["wave"].imag
    insert_curved_(curved, **world, height=torch.zeros_like(gain))
    weighted = gain * world["precision"]
    rest = world["rotation"], world["frequency"]
    insert_slices_(flat, weighted * world["spectrum"], weighted * gain, *rest)
    for found, wanted in zip(dense(curved), dense(flat), strict=True):
        assert float((found - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())


def test_the_numerator_is_the_adjoint_of_the_image() -> None:
    """<Y(V), w y> = <V, numerator> for Y = a+ V(+z) + a- V(-z), all voxels of the padded transform."""
    world = images(6.0)  # what is lifted stays within the transform
    height = draw(COUNT, len(world["frequency"]), seed=7).clamp(-4, 4)
    volume = draw(BOX, BOX, BOX, seed=8)
    table = projector(volume, correct=False)
    sides = []
    for sign in (1, -1):
        plane = world["frequency"].expand(*height.shape, 2)
        point = torch.cat([plane, sign * height[..., None]], -1)
        sides.append(extract_slices(table, world["rotation"], point))
    wave = world["wave"]
    predicted = (wave * sides[0] - wave.conj() * sides[1]) / 2j
    left = 2 * (predicted.conj() * world["precision"] * world["spectrum"]).real.sum()
    sums = accumulator(BOX, 2)
    insert_curved_(sums, **world, height=height)
    numerator, _ = dense(sums)
    whole = torch.fft.irfftn(numerator, s=(2 * BOX,) * 3)
    whole = torch.fft.fftshift(whole)[(slice(BOX // 2, BOX // 2 + BOX),) * 3]
    right = (whole * volume).sum() * (2 * BOX) ** 3 / BOX
    assert float(right) == pytest.approx(float(left), rel=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_point_above_the_middle_has_less_defocus(sign: int) -> None:
    """V = exp(-2 pi i q.x) of a point at x: Y = sin(chi - sign pi lambda k^2 x_z) exp(-2 pi i k.x), and Y(-k) = conj Y(k)."""
    k = 0.2 * draw(50, 2, seed=1).double()
    voltage, x = torch.tensor([20.0], dtype=torch.float64), torch.tensor([3.0, -2.0, 35.0])
    lam, k2 = float(wavelength(voltage)), k.square().sum(1)
    chi = math.pi * lam * 900 * k2 + 0.1
    z = sign * ewald_height(k, voltage)[0]

    def image(k: torch.Tensor) -> torch.Tensor:
        value = [
            torch.exp(-2j * math.pi * (k @ x[:2].double() + side * z * x[2])) for side in (1, -1)
        ]
        return (torch.exp(1j * chi) * value[0] - torch.exp(-1j * chi) * value[1]) / 2j

    wanted = torch.sin(chi - sign * math.pi * lam * k2 * x[2])
    wanted = wanted * torch.exp(-2j * math.pi * (k @ x[:2].double()))
    assert torch.allclose(image(k), wanted)
    assert torch.allclose(image(-k), image(k).conj())


def test_weights_are_never_negative_and_part_with_the_height() -> None:
    """From sin^2(chi) at both places together to 1/4 at each; in between, no weight below zero."""
    world = images(6.0, 1)
    world["rotation"] = torch.eye(3)[None]
    total = {}
    for height in (0.0, 0.3, 0.6):
        sums = accumulator(BOX, 1)
        insert_curved_(sums, **world, height=torch.full_like(world["precision"], height))
        _, weight = dense(sums)
        assert float(weight.min()) >= -1e-6
        twice = torch.full((BOX // 2 + 1,), 2.0)
        twice[0] = 1
        total[height] = float((weight * twice).sum())
    precision, wave = world["precision"].double(), world["wave"]
    sine = 2 * float((precision * wave.imag.square()).sum())
    apart = float((precision * wave.abs().square()).sum())
    assert total[0.0] == pytest.approx(sine, rel=1e-5)
    assert total[0.6] == pytest.approx(apart, rel=1e-5)
    assert total[0.3] == pytest.approx(0.4 * sine + 0.6 * apart, rel=1e-5)
