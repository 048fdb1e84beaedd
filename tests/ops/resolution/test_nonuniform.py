"""The local cutoff against dense formulas, known blurs and what a global filter leaves."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch

from cryotorch.ops.fourier import transforms
from cryotorch.ops.fourier.filters import filter_shells, low_pass
from cryotorch.ops.masks.soft import density_mask, soft_sphere
from cryotorch.ops.models.gaussians import bfactor_to_sigma, gaussian_density
from cryotorch.ops.models.phantom import phantom_atoms
from cryotorch.ops.resolution import nonuniform as module
from cryotorch.ops.resolution.fsc import crossing_shell, shell_correlation
from cryotorch.ops.resolution.nonuniform import apply_cutoff, filter_bank, local_cutoff


class Filtered(NamedTuple):
    """Half maps filtered alike, and the cutoff that did it."""

    maps: torch.Tensor
    cutoff: torch.Tensor


def nonuniform(half_maps, pixel_size, bank=None, kind="butterworth", window=3.0, weight=None):
    """What a refinement does with half maps: choose, then filter both."""
    shape = {"resolutions": bank, "kind": kind, "weight": weight}
    cutoff = local_cutoff(half_maps, pixel_size, window=window, **shape)
    return Filtered(apply_cutoff(half_maps, pixel_size, cutoff, **shape), cutoff)


PX = 1.5


def noise(box: int, seed: int) -> torch.Tensor:
    return torch.randn(box, box, box, generator=torch.Generator().manual_seed(seed))


def axis(box: int) -> torch.Tensor:
    return torch.arange(box, dtype=torch.float32) - box // 2


def texture(box: int, sigma: float, seed: int) -> torch.Tensor:
    """White noise of variance 1 blurred by a Gaussian: its spectrum is exp(-(2 pi sigma k)^2)."""
    return low_pass(noise(box, seed), PX, sigma / 0.13249, "gaussian")


class TwoParts:
    """A map of two parts along x, the left one blurred, in white noise.

    Textures: in a ball; signal and noise are equal at 5 Å in the sharp half and at 17 Å in the blurred one. Protein:
    the house phantom, the blurred half as it would be at 15 Å.
    """

    def __init__(self, box: int, blurred: bool = True, protein: bool = False) -> None:
        if protein:
            atoms = phantom_atoms(box * PX, torch.eye(3)[None])
            right = atoms.position[:, 0] > 0
            sides = []
            for side, blur in ((right, 3.0), (~right, 15.0 if blurred else 3.0)):
                sigma = (bfactor_to_sigma(atoms.bfactor[side]) ** 2 + (0.225 * blur) ** 2).sqrt()
                sides.append(
                    gaussian_density(atoms.position[side], atoms.weight[side], sigma, box, PX)
                )
            masks = [density_mask(side, PX, 0.25, near=3, far=9, low_pass=12) for side in sides]
            level = 0.08 * float(sides[0][masks[0] > 0.9].std()) / 0.1
        else:
            ball = soft_sphere(box, 0.30 * box, 0.06 * box)
            side = (axis(box) / 3).clamp(-1, 1) * math.pi / 2
            half = ((1 + side.sin()) / 2).expand(box, box, box)
            masks = [ball * half, ball * (1 - half)]
            sides = [texture(box, 1.0, 1) * masks[0]]
            sides.append(texture(box, 3.4 if blurred else 1.0, 2) * masks[1])
            level = 0.45
        self.sharp_mask, self.blurred_mask = masks
        self.mask = (masks[0] + masks[1]).clamp(max=1)
        self.truth = sides[0] + sides[1]
        self.halves = torch.stack([self.truth + level * noise(box, seed) for seed in (3, 4)])
        self.solvent = (self.mask == 0) & (soft_sphere(box, 0.46 * box, 0) > 0)
        curve = shell_correlation(*(self.halves * self.mask)).clamp(0.001, 0.999).float()
        curve[int(crossing_shell(curve, 0.01)) + 1 :] = 0.001
        self.wiener = torch.stack([filter_shells(half, curve) for half in self.halves])
        self.weight = 2 * curve / (1 + curve)

    def against_truth(self, maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.stack([shell_correlation(m * mask, self.truth * mask) for m in maps]).mean(0)

    def error(self, maps: torch.Tensor, mask: torch.Tensor) -> float:
        return float((mask * (maps - self.truth).square()).sum() / (2 * mask).sum())


def noise_left(maps: torch.Tensor, weight: torch.Tensor) -> float:
    """Variance of what two filtered half maps do not share, per half map."""
    return float((weight * (maps[0] - maps[1]).square()).sum() / (2 * weight.sum()))


def inner_median(cutoff: torch.Tensor, mask: torch.Tensor) -> float:
    return float(cutoff[mask > 0.99].median())


@pytest.mark.parametrize("box", [72, 75])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_sharp_part_keeps_its_detail_and_a_blurred_one_loses_its_noise(box, weighted):
    parts = TwoParts(box, protein=True)
    found = nonuniform(parts.halves, PX, weight=parts.weight if weighted else None)
    assert found.maps.shape == (2, box, box, box) and found.cutoff.shape == (box,) * 3
    sharp, blurred = (inner_median(found.cutoff, m) for m in (parts.sharp_mask, parts.blurred_mask))
    assert sharp < 0.6 * blurred
    assert inner_median(found.cutoff, parts.solvent.float()) > 0.8 * filter_bank(box, PX)[0]

    mine = parts.against_truth(found.maps, parts.sharp_mask)
    theirs = parts.against_truth(parts.wiener, parts.sharp_mask)
    assert crossing_shell(mine, 0.5, True) > crossing_shell(theirs, 0.5, True)
    assert (mine - theirs)[: int(crossing_shell(theirs, 0.5)) + 1].min() > -0.01
    for mask in (parts.sharp_mask, parts.blurred_mask):
        assert parts.error(found.maps, mask) < 0.95 * parts.error(parts.wiener, mask)
    for where, share in ((parts.blurred_mask, 0.6), (parts.solvent, 0.2)):
        assert noise_left(found.maps, where) < share * noise_left(parts.wiener, where)


@pytest.mark.parametrize("protein", [False, True])
def test_a_uniform_map_costs_no_resolution(protein):
    parts = TwoParts(72, blurred=False, protein=protein)
    found = nonuniform(parts.halves, PX, weight=parts.weight)
    curves = [parts.against_truth(maps, parts.mask) for maps in (found.maps, parts.wiener)]
    for threshold in (0.5, 0.7):
        mine, theirs = (crossing_shell(curve, threshold, True) for curve in curves)
        assert mine > theirs - 0.5
    assert parts.error(found.maps, parts.mask) < 1.06 * parts.error(parts.wiener, parts.mask)


def test_with_the_weight_a_sharp_texture_loses_nothing():
    """Where a global Wiener filter is the best there is for the sharp part, too."""
    parts = TwoParts(72)
    found = nonuniform(parts.halves, PX, weight=parts.weight)
    curves = [parts.against_truth(m, parts.sharp_mask) for m in (found.maps, parts.wiener)]
    mine, theirs = (crossing_shell(curve, 0.5, True) for curve in curves)
    assert mine > theirs - 0.3
    assert parts.error(found.maps, parts.sharp_mask) < parts.error(parts.wiener, parts.sharp_mask)
    for where in (parts.blurred_mask, parts.solvent):
        assert noise_left(found.maps, where) < 0.25 * noise_left(parts.wiener, where)


@pytest.mark.parametrize("box", [48, 49, 64])
@pytest.mark.parametrize("kind", ["butterworth", "gaussian", "rectangular"])
def test_pure_noise_has_the_coarsest_cutoff_everywhere(box, kind):
    for seed in range(3):
        halves = torch.stack([noise(box, 10 + seed), noise(box, 20 + seed)])
        cutoff = local_cutoff(halves, PX, kind=kind)
        assert (cutoff == filter_bank(box, PX)[0]).float().mean() > 0.999


def test_the_cutoff_follows_a_ramp_of_blurs():
    """Gaussians at random places, wider along x: their local spectrum is density * exp(-(2 pi sigma k)^2)."""
    box, n, level = 72, 6000, 0.002
    edge = box * PX
    generator = torch.Generator().manual_seed(5)
    x = (torch.rand(n, 3, generator=generator) - 0.5) * edge

    def sigma(x: torch.Tensor) -> torch.Tensor:
        return 2.5 + 2 * (x / edge)  # 1.5 to 3.5 Å

    truth = gaussian_density(x, torch.ones(n), sigma(x[:, 0]), box, PX)
    cutoff = local_cutoff(torch.stack([truth + level * noise(box, s) for s in (6, 7)]), PX)

    k = torch.linspace(1e-3, 0.5 / PX, 400)[:, None, None]
    places = torch.arange(-32.0, 33.0, 16.0)
    signal = n / edge**3 * torch.exp(-((2 * math.pi * sigma(places) * k).square()))
    candidates = torch.linspace(3.2, 15.0, 200)[:, None]
    gain = (1 + (k * candidates) ** 16).rsqrt()
    error = (k**2 * ((1 - gain) ** 2 * signal + gain**2 * level**2 * PX**3)).sum(0)
    expected = candidates[error.argmin(0), 0]

    inner = slice(box // 2 - 20, box // 2 + 20)
    found = cutoff[inner, inner].log().mean((0, 1)).exp()
    found = torch.stack([found[round(float(p) / PX) + box // 2] for p in places])
    assert expected[-1] > 1.5 * expected[0]
    assert ((found / expected).log().abs() < 0.12).all(), (found, expected)
    assert (found.diff() > 0).all()


def dense_changes(halves: torch.Tensor, bank: list[float], window: float, local: bool):
    """E_j+1 - E_j of the docstring, unsmoothed unless local; float64, every transform at full size."""
    box = halves.shape[-1]
    f = torch.fft.fftfreq(box, PX, dtype=torch.float64)
    k = (f[:, None, None].square() + f[:, None].square() + f.square()).sqrt()
    m1, m2 = torch.fft.fftn(halves[0]), torch.fft.fftn(halves[1])

    def back(transform: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifftn(transform).real

    for coarse, fine in pairwise(bank):
        low, high = ((1 + (k * r) ** 16).rsqrt() for r in (coarse, fine))
        if not local:
            energy = [
                (back(h * m1) - halves[1]).square() + (back(h * m2) - halves[0]).square()
                for h in (low, high)
            ]
            yield energy[1] - energy[0]
            continue
        p, q = (m1 + m2) / 2, (m1 - m2) / 2
        b = (2 * (high - low) * (2 - high - low)).clamp(min=0).sqrt()
        c = (2 * (high - low) * (2 + high + low)).clamp(min=0).sqrt()
        weight = torch.exp(-2 * math.pi**2 * k**2 * window**2 * coarse * fine / 20)
        yield back(torch.fft.fftn(back(c * q) ** 2 - back(b * p) ** 2) * weight)


def test_the_bands_hold_the_cross_validation_error():
    halves = TwoParts(32).halves.double()
    bank = filter_bank(32, PX)
    published = [float(e.sum()) for e in dense_changes(halves, bank, 3.0, local=False)]
    bands = [float(e.sum()) for e in dense_changes(halves, bank, 3.0, local=True)]
    assert bands == pytest.approx(published, rel=1e-9)


@pytest.mark.parametrize("box", [48, 45])
def test_the_choice_is_the_smallest_running_sum(box):
    halves = TwoParts(box).halves
    bank = filter_bank(box, PX)
    changes = torch.stack(list(dense_changes(halves.double(), bank, 3.0, local=True)))
    sums = torch.cat([torch.zeros_like(changes[:1]), changes.cumsum(0)])
    choice = sums.argmin(0)
    padded = torch.cat([changes, changes[-1:]])
    before = padded.gather(0, (choice - 1).clamp(min=0)[None])[0]
    after = padded.gather(0, choice[None])[0]
    between = (choice > 0) & (choice < len(bank) - 1)
    place = choice + torch.where(between, before / (before - after) - 0.5, 0.0)
    lower = place.long().clamp(0, len(bank) - 2)
    cutoffs = torch.tensor(bank, dtype=torch.float64)
    expected = torch.lerp(cutoffs[lower], cutoffs[lower + 1], place - lower)
    off = (local_cutoff(halves, PX) / expected).log().abs()
    assert off.median() < 0.005
    assert off.quantile(0.95) < 0.1  # where two minima are alike, a coarser grid may take the other


def test_exchanged_half_maps_give_exchanged_results_bit_by_bit():
    halves = TwoParts(40).halves
    first, again, swapped = (
        nonuniform(halves, PX),
        nonuniform(halves, PX),
        nonuniform(halves.flip(0), PX),
    )
    assert torch.equal(first.maps, again.maps) and torch.equal(first.cutoff, again.cutoff)
    assert torch.equal(first.cutoff, swapped.cutoff)
    assert torch.equal(first.maps, swapped.maps.flip(0))


def test_each_output_is_its_own_half_map():
    """With the cutoff given, the other half map does not matter."""
    halves = TwoParts(40).halves
    found = nonuniform(halves, PX)
    alone = apply_cutoff(halves[1], PX, found.cutoff)
    assert torch.equal(found.maps[1], alone)
    merged = apply_cutoff(halves.mean(0), PX, found.cutoff)
    assert torch.allclose(merged, found.maps.mean(0), atol=1e-5)


@pytest.mark.parametrize("box", [32, 33])
@pytest.mark.parametrize("kind", ["butterworth", "gaussian", "rectangular"])
def test_one_cutoff_everywhere_is_a_low_pass(box, kind):
    volume, bank = noise(box, 1).double(), [12.0, 8.0, 6.0, 4.0]
    one = torch.ones(box, box, box, dtype=torch.float64)
    for cutoff, expected in ((8.0, 8.0), (30.0, 12.0), (2.0, 4.0)):
        found = apply_cutoff(volume, PX, cutoff * one, bank, kind)
        assert torch.allclose(found, low_pass(volume, PX, expected, kind), atol=1e-9)
    between = 0.25 * low_pass(volume, PX, 8.0, kind) + 0.75 * low_pass(volume, PX, 6.0, kind)
    assert torch.allclose(apply_cutoff(volume, PX, 6.5 * one, bank, kind), between, atol=1e-9)
    weight = torch.linspace(1, 0.2, box // 2 + 1)
    weighted = apply_cutoff(volume, PX, 8 * one, bank, kind, weight=weight)
    expected = low_pass(filter_shells(volume, weight), PX, 8.0, kind)
    assert torch.allclose(weighted, expected, atol=1e-9)
    many = apply_cutoff(torch.stack([volume, 2 * volume])[:, None], PX, 8 * one, bank, kind)
    assert many.shape == (2, 1, box, box, box)
    assert torch.allclose(many[1, 0], 2 * many[0, 0])


def test_what_lies_outside_the_support_counts_less():
    parts = TwoParts(64)
    support = soft_sphere(64, 25, 0) > 0
    spoilt = torch.where(support, parts.halves, 3 * parts.halves)
    inner = soft_sphere(64, 18, 0) > 0
    clean = local_cutoff(parts.halves, PX, support=support)
    off, off_without = (
        (local_cutoff(spoilt, PX, support=s) / clean).log().abs()[inner].mean()
        for s in (support, None)
    )
    assert off < 0.5 * off_without
    everywhere = local_cutoff(parts.halves, PX, support=torch.ones_like(support))
    assert torch.allclose(everywhere, local_cutoff(parts.halves, PX), rtol=1e-3)
    small = torch.zeros_like(support)
    small[30:34, 30:34, 30:34] = True
    near = local_cutoff(parts.halves, PX, support=small)
    assert near[0, 0, 0] == 20 and near[32, 32, 36] < 15


def test_nothing_is_chosen_where_nothing_is():
    coarsest = filter_bank(48, PX)[0]
    assert (local_cutoff(torch.zeros(2, 48, 48, 48), PX) == coarsest).all()
    ball = soft_sphere(48, 6, 2)
    masked = local_cutoff(TwoParts(48).halves * ball, PX)
    assert masked[24, 24, 24] < 0.7 * masked[0, 0, 0]
    banded = low_pass(TwoParts(48).halves, PX, 8.0, "rectangular")
    assert local_cutoff(banded, PX).min() > 8.0 / module._reach("butterworth", 8)


def test_the_bank_goes_in_even_steps_to_two_pixels():
    bank = filter_bank(256, 1.0)
    assert (bank[0], bank[-1], len(bank)) == (20.0, pytest.approx(2.0), 18)
    ratio = [a / b for a, b in pairwise(bank)]
    assert max(ratio) <= 1.15 and max(ratio) - min(ratio) < 1e-9
    assert filter_bank(40, 1.0)[0] == 10.0
    assert filter_bank(100, 1.0, finest=5.0, coarsest=15.0)[0::100] == [15.0]
    assert filter_bank(100, 1.0, finest=5.0)[-1] == pytest.approx(5.0)


def test_refuses_banks_and_filters_that_make_no_sense():
    halves = torch.zeros(2, 16, 16, 16)
    for bank in ([10.0], [5.0, 10.0], [10.0, 0.0]):
        with pytest.raises(ValueError, match="coarsest first"):
            nonuniform(halves, PX, bank)
    with pytest.raises(ValueError, match="boxcar"):
        nonuniform(halves, PX, kind="boxcar")
    with pytest.raises(ValueError, match="9 shells"):
        nonuniform(halves, PX, weight=torch.ones(16))


def test_memory_is_four_maps_beyond_the_half_maps_and_the_results(monkeypatch):
    monkeypatch.setattr(transforms, "SLAB", 2**15)
    halves, held, most = TwoParts(48).halves, 0, 0
    with torch.profiler.profile(profile_memory=True) as profile:
        nonuniform(halves, PX, window=2.0)
    for event in sorted(profile.events(), key=lambda event: event.time_range.end):
        held += event.self_cpu_memory_usage
        most = max(most, held)
    assert 3 < most / (4 * 48**3) < 3 + 4
