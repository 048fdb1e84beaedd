"""Maps cropped, moved, flipped and normalised: closed forms, even and odd boxes."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.geometry.placement import (
    centre_of_mass,
    crop_or_pad,
    flip_hand,
    normalize,
    shift_volume,
)
from cryotorch.ops.geometry.symmetry import point_group, symmetry_correlation
from cryotorch.ops.models.phantom import phantom


def noise(box: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(box, box, box, generator=generator, dtype=torch.float64)


def gaussian(box: int, centre: tuple[float, float, float], sigma: float = 2.0) -> torch.Tensor:
    """Centre (x, y, z) relative to pixel d // 2."""
    line = torch.arange(box, dtype=torch.float64) - box // 2
    x, y, z = (torch.exp(-((line - c) ** 2) / (2 * sigma**2)) for c in centre)
    return z[:, None, None] * y[:, None] * x


@pytest.mark.parametrize("old", [10, 11])
@pytest.mark.parametrize("new", [6, 7, 16, 17])
def test_crop_and_pad_keep_the_origin(old, new):
    volume = noise(old)
    other = crop_or_pad(volume, new, fill=7.0)
    assert other.shape == (new,) * 3 and other.is_contiguous()
    assert other[new // 2, new // 2, new // 2] == volume[old // 2, old // 2, old // 2]
    assert other[new // 2 + 2, new // 2 - 3, new // 2 + 1] == volume[old // 2 + 2, old // 2 - 3, old // 2 + 1]  # fmt: skip
    if new > old:
        assert torch.equal(crop_or_pad(other, old), volume)
        assert (other == 7).sum() == new**3 - old**3
    with pytest.raises(ValueError, match="at least one voxel"):
        crop_or_pad(volume, 0)


@pytest.mark.parametrize("box", [32, 33])
def test_a_shifted_gaussian_is_where_it_should_be(box):
    shift = torch.tensor([3.3, -2.0, 0.75])
    moved = shift_volume(gaussian(box, (1, 2, -3)), shift)
    assert torch.allclose(moved, gaussian(box, (4.3, 0, -2.25)), atol=1e-6)


@pytest.mark.parametrize("box", [8, 9])
def test_whole_pixels_are_copied_and_nothing_comes_round(box):
    volume = noise(box)
    moved = shift_volume(volume, torch.tensor([2.0, 0, -1]))
    assert torch.equal(moved[:-1, :, 2:], volume[1:, :, :-2])
    assert not moved[-1].any() and not moved[:, :, :2].any()
    assert not shift_volume(volume, torch.tensor([0.0, box + 3, 0])).any()


@pytest.mark.parametrize("box", [12, 13])
def test_a_shift_there_and_back_is_the_identity_below_nyquist(box):
    volume = crop_or_pad(gaussian(box, (0.2, 0, 0), 1.2), box)
    shift = torch.tensor([0.3, -0.4, 0.1])
    assert torch.allclose(shift_volume(shift_volume(volume, shift), -shift), volume, atol=1e-3)


@pytest.mark.parametrize("box", [8, 9])
def test_flipping_twice_is_the_identity_and_the_origin_stays(box):
    volume, c = noise(box), box // 2
    flipped = flip_hand(volume)
    assert torch.equal(flip_hand(flipped), volume) and not torch.equal(flipped, volume)
    assert flipped[c, c, c] == volume[c, c, c]
    assert flipped[c + 1, c - 2, c + 3] == volume[c - 1, c + 2, c - 3]


@pytest.mark.parametrize("name", ["C4", "D3", "T", "I3"])
def test_a_flip_keeps_the_axes_of_every_group_where_a_mirror_plane_does_not(name):
    group = point_group(name)
    volume = phantom(32, 6.0, group, seed=1)
    correlation = symmetry_correlation(volume, group).min()
    assert symmetry_correlation(flip_hand(volume), group).min() > correlation - 1e-3 > 0.9
    if name == "T":  # RELION's T has a threefold axis on z
        mirrored = volume.flip(0).roll(1, 0)
        assert symmetry_correlation(mirrored, group).min() < 0.8


def test_normalise_gives_mean_0_and_deviation_1():
    volume = normalize(3 + 5 * noise(12))
    assert float(volume.mean()) == pytest.approx(0, abs=1e-12)
    assert float(volume.std(correction=0)) == pytest.approx(1)
    with pytest.raises(ValueError, match="blank map"):
        normalize(torch.full((4, 4, 4), 2.0))


@pytest.mark.parametrize("box", [24, 25])
def test_centre_of_mass_is_in_voxels_from_the_corner(box):
    place = centre_of_mass(gaussian(box, (1.5, -2.25, 0.5), 1.5))
    assert (place - box // 2).tolist() == pytest.approx([1.5, -2.25, 0.5], abs=1e-4)
    with pytest.raises(ValueError, match="density above zero"):
        centre_of_mass(torch.zeros(4, 4, 4))
