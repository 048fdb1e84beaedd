"""Maps out of sums: a phantom comes back, divisors are bounded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.reconstruct import (
    Sums,
    collect,
    compensation,
    shell_mean_weight,
    solve,
)
from cryotorch.ops.fourier.slices import (
    accumulator,
    extract_slices,
    gridding_correction,
    insert_slices_,
    projector,
)
from cryotorch.ops.fourier.symmetrise import symmetrise
from cryotorch.ops.fourier.transforms import half_plane, shell_count, shell_sum, volume_shells
from cryotorch.ops.geometry.rotations import euler_to_matrix, random_rotations
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.fsc import shell_correlation

BOX, PIXEL = 32, 4.0


def insert(volume: Tensor, rotation: Tensor, padding: int = 1, weight: float = 1.0) -> Sums:
    """Slices of a volume, put back."""
    box = volume.shape[-1]
    frequency = half_plane(box).frequency
    slices = extract_slices(projector(volume), rotation, frequency)
    sums = accumulator(box, padding)
    weights = torch.full_like(slices.real, weight)
    insert_slices_(sums, weight * slices, weights, rotation, frequency)
    return collect(sums)


def nothing(box: int = BOX) -> Tensor:
    return torch.zeros(box // 2 + 1, dtype=torch.float64)


@pytest.mark.parametrize("padding", [1, 2])
def test_random_views_give_the_phantom_back(padding: int) -> None:
    volume = phantom(BOX, PIXEL, point_group("C1"))
    rotation = random_rotations(600, torch.Generator().manual_seed(1))
    found = solve(insert(volume, rotation, padding), nothing())
    mask = soft_sphere(BOX, 12, 3)
    curve = shell_correlation(found * mask, volume * mask)
    assert curve[: BOX // 2 - 1].min() > 0.99
    inside = volume * mask
    assert float((found * inside).sum() / (volume * inside).sum()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("symmetry", ["C1", "O"])
@pytest.mark.parametrize("padding", [1, 2])
def test_beyond_the_inserted_band_a_map_is_empty(symmetry: str, padding: int) -> None:
    """What interpolation carries there is a ratio of leaks, which no image supports, and was fifty times the signal."""
    box, limit = 32, 9.0
    plane = half_plane(box)
    few = plane.frequency[: plane.count(limit)]
    sums = accumulator(box, padding)
    rotation = random_rotations(60, torch.Generator().manual_seed(6))
    noise = torch.randn(60, len(few), 2, generator=torch.Generator().manual_seed(7))
    insert_slices_(sums, torch.view_as_complex(noise), torch.ones(60, len(few)), rotation, few)
    whole = symmetrise(collect(sums, limit), point_group(symmetry))
    found = solve(whole, 0.05 * shell_mean_weight(whole))
    found = found * gridding_correction(box, padding * box)  # which spreads every coefficient
    power = torch.fft.rfftn(found).abs().square()
    mean = shell_sum(power, box) / shell_count(box)
    assert mean[1:9].min() > 0.1 * mean[1:9].mean()
    assert float(found.abs().max()) < 5
    assert mean[12:].max() < (1e-9 if padding == 1 else 0.1) * mean[1:9].mean()


def test_sums_add_and_weights_do_not_change_the_map() -> None:
    volume = phantom(BOX, PIXEL, point_group("C1"))
    rotation = random_rotations(200, torch.Generator().manual_seed(3))
    first, second = insert(volume, rotation[:80]), insert(volume, rotation[80:])
    whole = insert(volume, rotation)
    both = first + second
    assert torch.allclose(both.weight, whole.weight, rtol=1e-4, atol=1e-4)
    assert torch.allclose(
        solve(both, nothing()), solve(whole, nothing()), atol=1e-4 * float(volume.max())
    )
    heavy = insert(volume, rotation, weight=50.0)
    assert torch.allclose(
        solve(heavy, nothing()), solve(whole, nothing()), atol=1e-4 * float(volume.max())
    )
    assert torch.allclose(shell_mean_weight(heavy), 50 * shell_mean_weight(whole), rtol=1e-4)


def test_mean_weight_is_images_per_voxel() -> None:
    """n slices spread 2 pi s points over 4 pi s^2 voxels in shell s: n / (2 s)."""
    n = 400
    found = shell_mean_weight(
        insert(torch.zeros(BOX, BOX, BOX), random_rotations(n, torch.Generator().manual_seed(4)))
    )
    shells = torch.arange(4, BOX // 2 - 1)
    assert torch.allclose(found[shells], n / (2 * shells.double()), rtol=0.06)


def test_a_prior_of_the_weights_size_halves_the_map() -> None:
    volume = phantom(BOX, PIXEL, point_group("C1"))
    sums = insert(volume, random_rotations(800, torch.Generator().manual_seed(5)))
    shell = sums.shells()
    even = Sums(
        sums.numerator / sums.weight.clamp_min(1), torch.ones_like(sums.weight), BOX, 1, BOX / 2
    )
    prior = nothing()
    prior[:] = 1
    assert torch.allclose(
        solve(even, prior), solve(even, nothing()) / 2, atol=1e-5 * float(volume.max())
    )
    # one shell suppressed alone: as if its numerator were zero
    prior = nothing()
    prior[5] = 1e9
    cut = Sums(torch.where(shell == 5, 0, even.numerator), even.weight, BOX, 1, BOX / 2)
    suppressed = solve(even, prior)
    assert torch.allclose(suppressed, solve(cut, nothing()), atol=1e-5 * float(volume.max()))
    assert not torch.allclose(suppressed, solve(even, nothing()), atol=0.05 * float(volume.max()))


def test_without_a_prior_the_floor_bounds_what_nobody_saw() -> None:
    """Views from one side leave a missing wedge; a stray contribution in it must not take over the map."""
    volume = phantom(BOX, PIXEL, point_group("C1"))
    generator = torch.Generator().manual_seed(6)
    turn = 2 * torch.pi * torch.rand(300, generator=generator)
    tilt = 0.5 * torch.rand(300, generator=generator)
    sums = insert(volume, euler_to_matrix(turn, tilt, torch.zeros(300)))
    empty = sums.weight == 0
    assert empty.float().mean() > 0.1
    stray = 1e-4 * float(sums.numerator[~empty].abs().median())
    sums.weight[empty], sums.numerator[empty] = 1e-6, stray
    bounded, unbounded = solve(sums, nothing()), solve(sums, nothing(), floor=0.0)
    sums.numerator[empty] = 0
    clean = solve(sums, nothing())
    assert (bounded - clean).norm() < 0.5 * clean.norm()
    assert (unbounded - clean).norm() > 100 * clean.norm()


@pytest.mark.parametrize("padding", [1, 2])
def test_sums_are_kept_up_to_their_limit_and_no_further(padding: int) -> None:
    """All weights one: what is left of them is a ball, by default that of the whole shells."""
    for limit, radius in ((None, 5.0), (99.0, 5.0), (3.5, 3.5)):
        sums = accumulator(10, padding)
        sums.sums[0] = 1.0
        found = collect(sums, limit)
        k = torch.fft.fftfreq(padding * 10, 1 / 10)
        x = torch.arange(padding * 5 + 1) / padding
        ball = k[:, None, None] ** 2 + k[:, None] ** 2 + x**2 <= radius**2
        assert found.limit == radius
        assert torch.equal(found.weight > 0, ball) and torch.equal(found.numerator != 0, ball)


def test_empty_sums_give_an_empty_map() -> None:
    found = solve(collect(accumulator(12)), nothing(12))
    assert torch.equal(found, torch.zeros(12, 12, 12))


def test_nothing_is_written_beyond_the_edge_of_the_band() -> None:
    sums = insert(
        phantom(BOX, PIXEL, point_group("C1")),
        random_rotations(300, torch.Generator().manual_seed(7)),
    )
    sums.numerator[volume_shells(BOX) > BOX // 2] = 1e6
    clean = insert(
        phantom(BOX, PIXEL, point_group("C1")),
        random_rotations(300, torch.Generator().manual_seed(7)),
    )
    assert torch.equal(solve(sums, nothing()), solve(clean, nothing()))


@pytest.mark.parametrize("padded", [8, 9])
def test_compensation_against_a_full_transform(padded: int) -> None:
    """f <- f / (f density smoothed) with (1 2 1)/4 along each axis, by rolls of all the P^3 coefficients."""
    draw = torch.Generator().manual_seed(3)
    volume = torch.randn(padded, padded, padded, generator=draw, dtype=torch.float64)
    whole = torch.fft.fftn(volume).abs() + 0.1
    half = padded // 2 + 1
    known = torch.fft.fftfreq(padded, 1 / padded)
    known = (known[:, None, None] ** 2 + known[:, None] ** 2 + known**2) <= (padded / 2) ** 2
    factor = torch.ones_like(whole)
    for _ in range(3):
        smooth = torch.where(known, factor * whole, 1.0)
        for axis in range(3):
            smooth = smooth / 2 + (smooth.roll(1, axis) + smooth.roll(-1, axis)) / 4
        factor = factor / smooth
    density, known = whole[..., :half], known[..., :half]
    found = compensation(lambda z: (density[z].clone(), known[z]), density, 3)
    assert torch.allclose(found, torch.where(known, factor[..., :half], 0))


def test_compensation_of_an_even_density_is_the_division() -> None:
    density = torch.full((8, 8, 5), 4.0, dtype=torch.float64)
    known = torch.ones(8, 8, 5, dtype=torch.bool)
    # at the first round the outside, which counts as even, is not there: all is known
    found = compensation(lambda z: (density[z].clone(), known[z]), density, 1)
    assert torch.allclose(found, 1 / density)


def test_compensation_serves_sparse_views() -> None:
    """Few slices of uneven precision on a padded grid: neighbours averaged by how well they are known are closer to the truth."""
    box, n = 48, 100
    volume = phantom(box, PIXEL, point_group("C1"))
    rotation = random_rotations(n, torch.Generator().manual_seed(1))
    frequency = half_plane(box).frequency
    slices = extract_slices(projector(volume), rotation, frequency)
    draw = torch.Generator().manual_seed(2)
    noise = torch.view_as_complex(torch.randn(*slices.shape, 2, generator=draw))
    weight = torch.rand(slices.shape, generator=draw) ** 4
    seen = slices + 0.3 * slices.abs().square().mean().sqrt() * noise / weight.sqrt()
    sums = accumulator(box, 2)
    insert_slices_(sums, seen * weight, weight, rotation, frequency)
    sums, mask = collect(sums), soft_sphere(box, 18, 4)
    plain, even = (
        shell_correlation(solve(sums, nothing(box), rounds=rounds) * mask, volume * mask)
        for rounds in (0, 4)
    )
    assert float((even - plain)[12:22].mean()) > 0.1
    assert float((even - plain)[1:22].min()) > -0.005
