"""Conical FSC against the ordinary one, a dense float64 reference, symmetry, and maps that are worse along one axis."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution import conical_fsc as cones
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.ops.resolution.significance import independent_numbers, noise_band, noise_profile

TWENTY = math.radians(20)


def half_maps(box: int, noise: float = 1.0, seed: int = 0) -> torch.Tensor:
    """A smooth random signal, each time with its own white noise."""
    draw = torch.Generator().manual_seed(seed)
    signal = torch.fft.rfftn(torch.randn(box, box, box, generator=draw))
    k = torch.fft.fftfreq(box, 1 / box)
    square = k[:, None, None] ** 2 + k[:, None] ** 2 + k[: box // 2 + 1].abs() ** 2
    signal = torch.fft.irfftn(signal * torch.exp(-square / (box / 5) ** 2), s=(box,) * 3)
    return signal / signal.std() + noise * torch.randn(2, box, box, box, generator=draw)


def directions(n: int) -> torch.Tensor:
    return fibonacci_directions(2 * n)[:n]


@pytest.mark.parametrize("box", [32, 33])
def test_a_cone_of_90_degrees_is_the_ordinary_fsc(box: int) -> None:
    a, b = half_maps(box)
    found = cones.conical_fsc(a, b, directions(7), math.pi / 2)
    wanted = shell_correlation(a, b)
    assert float((found.curves - wanted).abs().max()) < 1e-5
    assert float((found.power - 1).abs().max()) < 1e-5
    assert 0.2 < float(wanted[6]) < 1


@pytest.mark.parametrize("box", [24, 25])
def test_curves_are_those_of_a_dense_reference(box: int) -> None:
    """All coefficients of the full transform in float64, one direction after the other."""
    a, b = half_maps(box)
    axes = directions(20)
    found = cones.conical_fsc(a, b, axes, TWENTY)
    f, g = (np.fft.fftn(v.numpy().astype(np.float64)) for v in (a, b))
    k = np.fft.fftfreq(box, 1 / box)
    z, y, x = (line.ravel() for line in np.meshgrid(k, k, k, indexing="ij"))
    length = np.sqrt(x * x + y * y + z * z)
    shell = np.floor(length + 0.5)
    for axis, curve, power in zip(axes.numpy(), found.curves, found.power, strict=True):
        near = np.abs(np.stack([x, y, z], 1) @ axis) >= length * math.cos(TWENTY) - 1e-9
        # the last shell of an even box holds Nyquist, where k and -k are one
        for s in range(1, (box + 1) // 2):
            whole = shell == s
            cone = whole & near if (whole & near).sum() >= 10 else whole
            a1, b1 = f.ravel()[cone], g.ravel()[cone]
            wanted = (a1 * b1.conj()).real.sum() / np.sqrt(
                (np.abs(a1) ** 2).sum() * (np.abs(b1) ** 2).sum()
            )
            assert float(curve[s]) == pytest.approx(wanted, abs=1e-5)
            mean = [np.abs(v.ravel()) ** 2 for v in (f, g)]
            relative = sum(m[cone].mean() for m in mean) / sum(m[whole].mean() for m in mean)
            assert float(power[s]) == pytest.approx(relative, rel=1e-4)


@pytest.mark.parametrize("name", ["C4", "D2", "O"])
def test_symmetric_maps_agree_in_symmetric_directions(name: str) -> None:
    """The groups whose turns map the grid onto itself, on an odd box, so that the copies are exact."""
    group, (a, b) = point_group(name), half_maps(21)
    place = torch.stack(
        torch.meshgrid(*[torch.arange(21.0, dtype=torch.float64) - 10] * 3, indexing="ij"), -1
    ).flip(-1)

    def symmetric(volume: torch.Tensor) -> torch.Tensor:
        copies = []
        for rotation in group:
            x, y, z = ((place @ rotation).round().long() + 10).unbind(-1)
            copies.append(volume[z, y, x])
        return torch.stack(copies).mean(0)

    axes = directions(11)
    first = cones.conical_fsc(symmetric(a), symmetric(b), axes, TWENTY).curves
    assert float(first[:, 8].std()) > 1e-3  # they do depend on the direction
    for rotation in group[1:]:
        turned = cones.conical_fsc(symmetric(a), symmetric(b), axes @ rotation.T, TWENTY).curves
        assert float((turned - first).abs().max()) < 1e-4


def noisy_along_z() -> torch.Tensor:
    """Half maps whose noise is thirty times stronger within 35 degrees of the z axis of Fourier space."""
    box = 48
    signal = half_maps(box, noise=0)[0]
    draw = torch.Generator().manual_seed(1)
    noise = torch.fft.rfftn(0.2 * torch.randn(2, box, box, box, generator=draw), dim=(1, 2, 3))
    k = torch.fft.fftfreq(box, 1 / box)
    z, y, x = torch.meshgrid(k, k, k[: box // 2 + 1].abs(), indexing="ij")
    near = z.abs() > (x * x + y * y + z * z).sqrt() * math.cos(math.radians(35))
    noise[:, near] *= 30
    return signal + torch.fft.irfftn(noise, s=(box,) * 3, dim=(1, 2, 3))


def test_a_noisy_axis_lowers_ratio_and_resolution_there() -> None:
    axes = directions(300)
    curves = cones.conical_fsc(*noisy_along_z(), axes, TWENTY).curves
    even = cones.conical_fsc(*half_maps(48, 0.2), axes, TWENTY).curves
    assert cones.area_ratio(curves) < 0.3
    assert cones.area_ratio(even) > 0.8
    reached = cones.directional_resolution(curves, 100.0)
    along, across = axes[:, 2] > math.cos(math.radians(15)), axes[:, 2] < 0.5
    assert float(reached[along].min()) > 1.3 * float(reached[across].max())


def test_area_ends_before_the_fall_and_weighs_with_the_square_of_the_shell() -> None:
    good = torch.tensor([1, 0.1, 1, 1, 0.9, 0.8, 0.5, 0.143, 0.9], dtype=torch.float64)
    bad = torch.tensor([1, 1, 1, 1, 0.7, 0.1, 0.9, 0.9, 0.9], dtype=torch.float64)
    curves = torch.stack([good, bad])
    assert cones.first_fall(curves).tolist() == [7, 5]
    wanted = [0.1 + 4 + 9 + 16 * 0.9 + 25 * 0.8 + 36 * 0.5, 1 + 4 + 9 + 16 * 0.7]
    torch.testing.assert_close(cones.curve_area(curves), torch.tensor(wanted, dtype=torch.float64))
    assert cones.area_ratio(curves) == pytest.approx(wanted[1] / wanted[0])
    # good crosses at 7, bad at 4 + (0.7 - 0.143) / 0.6
    reached = cones.directional_resolution(curves, 90.0).tolist()
    assert reached == pytest.approx([90 / 7, 90 / (4 + 0.557 / 0.6)])
    ends_above = torch.ones(1, 9, dtype=torch.float64)
    assert cones.first_fall(ends_above).tolist() == [9]
    assert cones.directional_resolution(ends_above, 90.0).tolist() == [90 / 8]
    assert math.isnan(cones.area_ratio(torch.zeros(2, 9, dtype=torch.float64)))


def test_a_missing_cone_is_empty() -> None:
    box, axes = 32, directions(300)
    maps = torch.fft.rfftn(half_maps(box, 0.3), dim=(1, 2, 3))
    k = torch.fft.fftfreq(box, 1 / box)
    z, y, x = torch.meshgrid(k, k, k[: box // 2 + 1].abs(), indexing="ij")
    maps[:, z.abs() > (x * x + y * y + z * z).sqrt() * math.cos(math.radians(45))] *= 0.01
    maps = torch.fft.irfftn(maps, s=(box,) * 3, dim=(1, 2, 3))
    empty = cones.empty_directions(cones.conical_fsc(*maps, axes, TWENTY).power, 12)
    assert empty[axes[:, 2] > math.cos(math.radians(20))].all()
    assert not empty[axes[:, 2] < math.cos(math.radians(50))].any()


def test_progress_counts_every_coefficient() -> None:
    seen: list[int] = []
    cones.conical_fsc(*half_maps(20), directions(5), TWENTY, seen.append)
    assert sum(seen) == cones.coefficients(20)


@pytest.mark.parametrize("angle", [0.0, -0.1, 1.6])
def test_angles_that_are_no_cone_are_refused(angle: float) -> None:
    with pytest.raises(ValueError, match="half_angle must be above 0"):
        cones.conical_fsc(*half_maps(8), directions(5), angle)


@pytest.mark.parametrize("symmetry, fold", [("C1", 1), ("C4", 4), ("D2", 4)])
def test_the_band_of_a_cone_counts_what_lies_in_it(symmetry: str, fold: int) -> None:
    """All of a shell in 90 degrees; the share 1 - cos in a narrow cone, less by the copies that lie in it along an axis."""
    numbers = torch.tensor([1.0, 300, 3000, 30000], dtype=torch.float64)
    group, z = point_group(symmetry), torch.tensor([[0.0, 0, 1], [0.6, 0.48, 0.64]])
    whole = cones.cone_band(numbers, z, math.pi / 2, group)
    torch.testing.assert_close(whole, noise_band(numbers / len(group)).expand(2, -1))
    narrow = cones.cone_band(numbers, z, TWENTY, group)
    share = 1 - math.cos(TWENTY)
    expected = [noise_band(share * numbers / times) for times in (fold, 1)]
    torch.testing.assert_close(narrow, torch.stack(expected))


def test_noise_stays_in_the_band_of_its_cones() -> None:
    """Under a mask: three standard errors of what is found, and no direction has a resolution but by a chance of a few per cent."""
    box, axes = 40, directions(200)
    mask = soft_sphere(box, 9, 4)
    found = []
    for seed in range(4):
        draw = torch.Generator().manual_seed(seed)
        maps = torch.randn(2, box, box, box, generator=draw)
        band = cones.cone_band(independent_numbers(mask, None, noise_profile(maps)), axes, TWENTY)
        curves = cones.conical_fsc(*(maps * mask), axes, TWENTY).curves
        found.append(curves)
        assert (
            float(cones.directional_resolution(curves, 100.0, band).isfinite().double().mean())
            < 0.03
        )
    clear = band[0] < 0.9
    z = torch.stack(found)[..., clear].atanh().std(dim=(0, 1))
    ratio = 3 * z / band[0, clear].atanh()
    assert 0.8 < float(ratio.mean()) < 1.15


def test_a_direction_ends_where_its_curve_meets_the_noise() -> None:
    curve = torch.tensor([[1, 1, 1, 1, 0.9, 0.8, 0.3, 0.2, 0.16]], dtype=torch.float64)
    band = torch.tensor([[1, 1, 1, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2]], dtype=torch.float64)
    # falls from 0.8 to 0.3 past 0.4 = 0.8 of the way
    reached = [
        float(cones.directional_resolution(curve, 90.0, b)) for b in (band, band + 0.31, 0 * band)
    ]
    assert reached[0] == pytest.approx(90 / 5.8)
    # a band of 0.5 and more cannot end a curve, but nothing within it is claimed
    assert math.isnan(reached[1])
    assert reached[2] == pytest.approx(90 / 8)
