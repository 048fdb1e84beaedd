"""Maps that scipy has moved are found again, in their hand, and what is open is told."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.rotations import random_rotations, rotation_angle
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.fsc import shell_correlation

BOX, PX = 48, 4.0


@lru_cache
def molecule(name: str, seed: int = 0) -> Tensor:
    return phantom(BOX, PX, point_group(name), seed)


def moved(
    volume: Tensor,
    rotation: Tensor,
    shift_px: np.ndarray,
    mirrored: bool = False,
    box: int = BOX,
    scale: float = 1.0,
) -> Tensor:
    """By scipy: what lay at x lies at R x + shift, R (-x) + shift where mirrored, in voxels ``scale`` times as large."""
    back = rotation.double().numpy().T * (-1 if mirrored else 1)
    matrix = back[::-1, ::-1]  # z, y, x
    middle, new = np.full(3, BOX // 2), np.full(3, box // 2)
    offset = middle - matrix @ (scale * new + shift_px[::-1])
    return torch.from_numpy(
        affine_transform(volume.numpy(), matrix * scale, offset, (box,) * 3, order=3)
    )


def noisy(volume: Tensor, seed: int, resolution: float = 20.0) -> Tensor:
    """With white noise: two such maps have an FSC of 0.5 at the resolution."""
    box = len(volume)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(volume.shape, generator=generator)
    shell = round(box * PX / resolution)
    k = torch.fft.fftfreq(box, 1 / box)
    radius = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt().round()
    power = [torch.fft.fftn(v).abs().square()[radius == shell].mean() for v in (volume, noise)]
    return volume + noise * (power[0] / power[1]).sqrt()


def off(name: str, found: Tensor, truth: Tensor) -> tuple[float, Tensor]:
    """Degrees to the nearest of the rotations that the symmetry makes alike, and that one."""
    copies = point_group(name) @ truth.double()
    angles = rotation_angle(copies, found)
    return math.degrees(float(angles.min())), copies[int(angles.argmin())]


def test_noise_is_what_it_should_be() -> None:
    curve = shell_correlation(noisy(molecule("C1"), 1), noisy(molecule("C1"), 2))
    shell = round(BOX * PX / 20)
    assert float(curve[shell - 1 : shell + 2].mean()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "name, copies, mirrored", [("C1", 0, False), ("C1", 0, True), ("C4", 3, True), ("O", 23, False)]
)
def test_a_noisy_map_is_found_from_anywhere(name: str, copies: int, mirrored: bool) -> None:
    turn = random_rotations(1, torch.Generator().manual_seed(copies))[0]
    shift = np.random.default_rng(copies).uniform(-0.1, 0.1, 3) * BOX
    map_ = noisy(moved(molecule(name), turn, shift, mirrored), 1)
    found = fit_map(map_, noisy(molecule(name), 9), PX)
    angle, rotation = off(name, found.rotation, turn.T)
    sign = -1 if mirrored else 1
    expected = -sign * rotation @ torch.from_numpy(shift) * PX
    assert angle < 0.6 and float((found.shift - expected).norm()) < 0.6
    assert found.mirrored == mirrored and found.copies == copies
    assert found.other_hand is not None and found.lead(found.other_hand) > 6
    assert found.runner_up is None or found.lead(found.runner_up.correlation) > 6


def test_other_voxels_and_a_clean_map_give_the_motion_exactly() -> None:
    turn, shift = random_rotations(1, torch.Generator().manual_seed(3))[0], np.array([3.0, -2, 1])
    map_ = moved(molecule("C1"), turn, shift, box=61, scale=0.8)
    found = fit_map(map_, molecule("C1"), PX, hand="same", moving_pixel_size=0.8 * PX)
    assert off("C1", found.rotation, turn.T)[0] < 0.1
    expected = -found.rotation @ torch.from_numpy(shift) * PX
    assert float((found.shift - expected).norm()) < 0.1
    assert found.correlation > 0.98 and found.other_hand is None and not found.mirrored
    assert torch.allclose(found.rotation @ found.rotation.T, torch.eye(3).double(), atol=1e-10)
    assert float(torch.linalg.det(found.rotation)) == pytest.approx(1)


def test_maps_that_have_nothing_in_common_fit_in_many_ways() -> None:
    found = fit_map(molecule("C1", 5), molecule("C1", 1), PX)
    assert found.correlation < 0.5 and found.runner_up is not None
    assert found.lead(found.runner_up.correlation) < 1.5
    assert found.other_hand is not None and abs(found.lead(found.other_hand)) < 3


def test_what_cannot_be_fitted_is_refused() -> None:
    volume = molecule("C1")
    with pytest.raises(ValueError, match="without density"):
        fit_map(torch.zeros_like(volume), volume, PX)
    with pytest.raises(ValueError, match="finer than two pixels"):
        fit_map(volume, volume, PX, 7.9)
    with pytest.raises(ValueError, match="hand must be one of same, mirror, auto"):
        fit_map(volume, volume, PX, hand="left")
