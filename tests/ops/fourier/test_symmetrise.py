"""Symmetry on sums is symmetry of the images; copies are what a closed form says, on every device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier import symmetrise as module
from cryotorch.ops.fourier.reconstruct import Sums, collect, solve, within
from cryotorch.ops.fourier.slices import (
    accumulator,
    extract_slices,
    insert_slices_,
    projector,
)
from cryotorch.ops.fourier.symmetrise import cubic_weights, symmetrise
from cryotorch.ops.fourier.transforms import half_plane, volume_shells
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.geometry.symmetry import cosets, point_group, symmetry_correlation
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.models.phantom import phantom

BOX, PIXEL = 32, 4.0


def insert(volume: Tensor, rotation: Tensor, padding: int = 1, symmetry: str = "C1") -> Sums:
    """Slices of a volume, put back; each once per symmetric copy."""
    frequency = half_plane(volume.shape[-1]).frequency
    slices = extract_slices(projector(volume), rotation, frequency)
    sums = accumulator(volume.shape[-1], padding)
    for g in point_group(symmetry).float():
        insert_slices_(sums, slices, torch.ones_like(slices.real), rotation @ g, frequency)
    return collect(sums)


def nothing(box: int = BOX) -> Tensor:
    return torch.zeros(box // 2 + 1, dtype=torch.float64)


def correlation(a: Tensor, b: Tensor) -> float:
    sphere = soft_sphere(a.shape[-1], a.shape[-1] / 2 - 3, 2)
    return float(
        torch.corrcoef(torch.stack([(a * sphere).flatten(), (b * sphere).flatten()]))[0, 1]
    )


def random_sums(padded: int, padding: int, limit: float) -> Sums:
    """Transforms of real noise, which reach beyond the limit."""
    noise = torch.randn(2, *(padded,) * 3, generator=torch.Generator().manual_seed(padded))
    numerator, weight = torch.fft.rfftn(noise, dim=(1, 2, 3))
    return Sums(numerator, weight.abs(), padded // padding, padding, limit)


@pytest.mark.parametrize("n", [25, 250])
@pytest.mark.parametrize("symmetry", ["C4", "D2", "D7", "T", "O"])
def test_symmetry_on_the_sums_is_that_of_all_copies(symmetry: str, n: int) -> None:
    """Also where the slices are few and the weights between them small."""
    group = point_group(symmetry)
    volume = phantom(BOX, PIXEL, group, seed=2)
    rotation = random_rotations(n, torch.Generator().manual_seed(2))
    found = symmetrise(insert(volume, rotation), group)
    copies = insert(volume, rotation, symmetry=symmetry)
    inner = volume_shells(BOX) < BOX // 2 - 1
    assert float(found.weight[inner].sum() / copies.weight[inner].sum()) == pytest.approx(
        1, rel=0.02
    )
    assert found.weight.min() >= 0
    inside = within(found.limit, BOX, 1)
    assert not found.weight[~inside].any() and not found.numerator[~inside].any()
    copies = Sums(copies.numerator * inside, copies.weight * inside, BOX, 1, found.limit)
    a, b = solve(found, nothing()), solve(copies, nothing())
    assert correlation(a, b) > (0.998 if n == 250 else 0.994)
    assert symmetry_correlation(a * soft_sphere(BOX, 11, 3), group).min() > 0.995
    alone = solve(insert(volume, rotation), nothing())
    assert n == 250 or correlation(alone, b) < 0.99


def cubic(whole: Tensor, point: Tensor) -> Tensor:
    """A full, periodic transform (P, P, P) at points (3, n) in its own pixels, by Keys' kernel with a = -1/2."""
    total = torch.zeros(point.shape[1], dtype=whole.dtype)
    for step in torch.cartesian_prod(*[torch.arange(-1, 3)] * 3):
        near = point.floor() + step[:, None]
        t = (point - near).abs()
        inner = 1.5 * t**3 - 2.5 * t**2 + 1
        outer = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        x, y, z = near.long() % len(whole)
        total += torch.where(t < 1, inner, outer * (t < 2)).prod(0) * whole[z, y, x]
    return total


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("symmetry", ["C4", "D3", "D7", "O"])
def test_copies_are_read_by_cubic_convolution(symmetry: str, padding: int) -> None:
    """In float64, from the whole transform, one rotation after the other."""
    box, group = 12, point_group(symmetry)
    size = padding * box
    sums = random_sums(size, padding, 4.8)
    found = symmetrise(sums, group)
    assert found.limit == sums.limit
    inside = within(sums.limit, size, padding)
    k, x = torch.fft.fftfreq(size, 1 / size), torch.arange(size // 2 + 1.0)
    z, y, x = torch.meshgrid(k, k, x, indexing="ij")
    point = torch.stack([x[inside], y[inside], z[inside]]).double()
    kept = (sums.numerator * inside, sums.weight * inside)
    for values, read in zip(kept, (found.numerator, found.weight), strict=True):
        volume = torch.fft.irfftn(values.to(torch.complex128), s=(size,) * 3)
        whole = torch.fft.fftn(volume)
        expected = sum(cubic(whole, (g.T @ point).round(decimals=9)) for g in group)
        expected = expected if read.is_complex() else expected.real.clamp_min(0)
        assert (read[inside] - expected).abs().max() < 1e-5 * read.abs().max()
        assert not read[~inside].any()


def test_cubic_weights_keep_what_is_quadratic() -> None:
    f = torch.linspace(0, 1, 9, dtype=torch.float64)
    weights, at = cubic_weights(f), torch.arange(-1, 3.0, dtype=torch.float64)
    for power in (0, 1, 2):
        torch.testing.assert_close(weights @ at**power, f**power)
    assert torch.equal(cubic_weights(f[:1]), torch.tensor([[0, 1, 0, 0]], dtype=f.dtype))


def test_rotations_that_are_no_group_are_copies_too() -> None:
    """A map and one about other axes: a quarter turn without its square."""
    turn = point_group("C4")[[0, 1]]
    sums = random_sums(16, 1, 7.0)
    assert len(cosets(turn)[0]) == 1
    found = symmetrise(sums, turn)
    twice = symmetrise(found, point_group("C4")[[0, 2]] if turn[1, 0, 1] else turn)
    torch.testing.assert_close(twice.numerator, symmetrise(sums, point_group("C4")).numerator)


@pytest.mark.parametrize("symmetry", ["C2", "C5", "D2", "D7", "T", "O", "I1", "I3"])
@pytest.mark.parametrize(("size", "padding", "limit"), [(15, 1, 7.5), (16, 1, 8.0), (24, 2, 4.3)])
def test_devices_agree(symmetry: str, size: int, padding: int, limit: float) -> None:
    """What is compiled for a CPU and what other devices compute by tensor operations; the map is real."""
    group, sums = point_group(symmetry), random_sums(size, padding, limit)
    found = symmetrise(sums, group)
    table = module._to_table(sums, found.limit * padding)
    other = module._add_copies(table, found.limit * padding, group)
    other = module._from_table_(other, sums, found.limit)
    scale = float(found.numerator.abs().max())
    torch.testing.assert_close(found.numerator, other.numerator, rtol=0, atol=2e-6 * scale)
    torch.testing.assert_close(found.weight, other.weight, rtol=0, atol=2e-6 * scale)
    plane = found.numerator[:, :, 0]
    mirrored = plane.flip(0, 1).roll((1, 1), (0, 1)).conj()
    torch.testing.assert_close(plane, mirrored.resolve_conj(), rtol=0, atol=2e-6 * scale)


def test_without_symmetry_nothing_is_done() -> None:
    sums = insert(
        phantom(16, 6.0, point_group("C1")), random_rotations(9, torch.Generator().manual_seed(1))
    )
    assert symmetrise(sums, point_group("C1")) is sums
