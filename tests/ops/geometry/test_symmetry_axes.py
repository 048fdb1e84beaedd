"""Axes of maps in any orientation, off centre and with noise; and what maps without the symmetry are told."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import fft_volume, shell_count, shell_sum
from cryotorch.ops.geometry.placement import shift_volume
from cryotorch.ops.geometry.rotations import random_rotations, rotation_angle
from cryotorch.ops.geometry.symmetry import point_group, rotate_volume
from cryotorch.ops.geometry.symmetry_axes import Axes, find_axes
from cryotorch.ops.geometry.symmetry_frame import mates
from cryotorch.ops.models.phantom import phantom

BOX, PIXEL = 40, 3.0  # Å
LIMIT = BOX * PIXEL / 15  # 15 Å, of a small molecule, which is soon made
RADIUS = 0.38


@lru_cache
def molecule(name: str) -> Tensor:
    return phantom(BOX, PIXEL, point_group(name), resolution=9)


def displaced(volume: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A volume turned at random, then moved by up to 3 pixels along each axis, with noise as strong as half the signal at the limit
    (half maps would have an FSC of 0.5): the map, the rotation and the shift."""
    generator = torch.Generator().manual_seed(seed)
    rotation = random_rotations(1, generator)[0].double()
    shift = 6 * torch.rand(3, generator=generator, dtype=torch.float64) - 3
    moved = shift_volume(rotate_volume(volume, rotation), shift)
    power = shell_sum(fft_volume(volume).abs().square(), BOX) / shell_count(BOX)
    deviation = math.sqrt(float(power[round(LIMIT)]) / 2 / BOX**3)
    return moved + deviation * torch.randn(moved.shape, generator=generator), rotation, shift


def errors(axes: Axes, group: Tensor, rotation: Tensor, shift: Tensor) -> tuple[float, float]:
    """Degrees and pixels, but for what the group leaves free."""
    whole, centre = axes.rotation @ rotation, axes.rotation @ (axes.shift_px + shift)
    if bool((group[:, 2, 2] > 1 - 1e-6).all()):
        return math.degrees(math.acos(min(1.0, abs(float(whole[2, 2]))))), float(centre[:2].norm())
    same = torch.cat([group, *(mate @ group for mate in mates(group))])
    return math.degrees(float(rotation_angle(same, whole).min())), float(centre.norm())


@pytest.mark.parametrize("name", ["C2", "C4", "C7", "D2", "D3", "D7", "T", "O", "I2", "I3"])
def test_axes_are_found_in_any_orientation(name: str) -> None:
    group = point_group(name)
    noisy, rotation, shift = displaced(molecule(name), seed=len(group))
    axes = find_axes(noisy, group, LIMIT, RADIUS)
    degrees, pixels = errors(axes, group, rotation, shift)
    assert degrees < 1.5 and pixels < 0.25
    assert axes.correlation > 0.6 and axes.lowest > 0.55
    assert not axes.runner_up > 0.8 * axes.correlation


@pytest.mark.parametrize("name", ["C2", "D7", "O"])
def test_a_map_without_symmetry_correlates_little(name: str) -> None:
    """A molecule that is longer than wide, which a half turn changes least."""
    axes = find_axes(displaced(molecule("C1"), seed=3)[0], point_group(name), LIMIT, RADIUS)
    assert axes.lowest < 0.6 and axes.correlation < 0.6
    if name != "C2":
        assert axes.lowest < 0.3 and axes.correlation < 0.4


def test_an_operator_that_is_missing_is_named() -> None:
    """A C7 map asked for D7 has the seven-fold axis, and no two-folds across it."""
    group = point_group("D7")
    axes = find_axes(displaced(molecule("C7"), seed=4)[0], group, LIMIT, RADIUS)
    about_z = group[:, 2, 2] > 0
    assert axes.by_operator[about_z].min() > 0.75
    assert axes.by_operator[~about_z].max() < 0.6


@pytest.mark.parametrize("name", ["C4", "D4", "T"])
def test_of_a_higher_symmetry_one_of_the_axes_is_taken(name: str) -> None:
    noisy, rotation, shift = displaced(molecule("O"), seed=5)
    axes = find_axes(noisy, point_group(name), LIMIT, RADIUS)
    assert axes.lowest > 0.7
    # the whole group lies about them where they hold more than one axis
    if name != "C4":
        assert errors(axes, point_group(name), rotation, shift)[1] < 0.25


def test_one_map_has_one_answer() -> None:
    noisy = displaced(molecule("D3"), seed=6)[0]
    first, second = (find_axes(noisy, point_group("D3"), LIMIT, RADIUS) for _ in range(2))
    assert torch.equal(first.rotation, second.rotation)
    assert torch.equal(first.shift_px, second.shift_px)


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="C1"):
        find_axes(molecule("C1"), point_group("C1"), LIMIT, RADIUS)
    with pytest.raises(ValueError, match="got 3"):
        find_axes(molecule("C1"), point_group("C2"), 3, RADIUS)
    with pytest.raises(ValueError, match="density"):
        find_axes(torch.zeros(BOX, BOX, BOX), point_group("C2"), LIMIT, RADIUS)
