"""The climb ends where the maps agree."""

from __future__ import annotations

import math

import torch

from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.geometry.fit_climb import Fits, Source, band_of, climb, moved, norm_of, weighed
from cryotorch.ops.geometry.rotations import from_rotation_vector, rotation_angle
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.models.phantom import phantom

BOX, LIMIT = 32, 10.0
ONES = torch.ones(BOX // 2 + 1)


def source(volume: torch.Tensor) -> Source:
    return Source(projector(volume, LIMIT), ONES)


def starts(vector: list[float], shift: list[float], mirrored: bool = False) -> Fits:
    rotation = from_rotation_vector(torch.tensor([vector]))
    return Fits(rotation, torch.tensor([shift]), torch.tensor([mirrored]), torch.zeros(1))


def test_the_climb_comes_back_to_the_map_itself() -> None:
    volume = phantom(BOX, 6.0, point_group("C1"))
    slices, band = source(volume), band_of(volume, LIMIT, ONES)
    start = starts([0.08, -0.06, 0.05], [0.5, -0.4, 0.3])
    end = climb(slices, band.limited(6.0), start)
    end = climb(slices, band, end)
    off = float(rotation_angle(end.rotation[0], torch.eye(3)))
    assert math.degrees(off) < 0.1 and float(end.shift.norm()) < 0.01
    assert float(end.correlation) > 0.999
    # one that is right stays
    again = climb(slices, band, end)
    assert float(again.correlation) >= float(end.correlation)


def test_coefficients_are_those_of_the_moved_map() -> None:
    volume = phantom(BOX, 6.0, point_group("C1"))
    slices, band = source(volume), band_of(volume.roll((1, 0, -2), (0, 1, 2)), LIMIT, ONES)
    found = moved(slices, band, starts([0.0] * 3, [-2.0, 0.0, 1.0]))[0]
    both = norm_of(found, band.weight) * norm_of(band.value, band.weight)
    assert float(((found.conj() * band.value).real * band.weight).sum() / both) > 0.9999
    flipped = volume.flip(0, 1, 2).roll((1, 1, 1), (0, 1, 2))
    other = band_of(flipped, LIMIT, ONES)
    found = moved(slices, other, starts([0.0] * 3, [0.0] * 3, True))[0]
    both = norm_of(found, other.weight) * norm_of(other.value, other.weight)
    assert float(((found.conj() * other.value).real * other.weight).sum() / both) > 0.9999


def test_shells_of_noise_weigh_little() -> None:
    volume = phantom(BOX, 6.0, point_group("C1"))
    noise = torch.randn(volume.shape, generator=torch.Generator().manual_seed(0))
    band, other = band_of(volume, LIMIT, ONES), band_of(noise, LIMIT, ONES)
    fine = band.frequency.norm(dim=1) > 7
    mixed = band._replace(value=torch.where(fine, other.value, band.value))
    weight = weighed(source(volume), mixed, starts([0.0] * 3, [0.0] * 3)).weight
    assert float(weight[fine].mean()) < 0.05 * float(weight[~fine].mean())
