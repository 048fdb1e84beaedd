"""Tightening the FSC mask: what noise and outlines must not earn, and what real density must."""

from __future__ import annotations

import time

import pytest
import torch

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.transforms import volume_shells
from cryotorch.ops.masks.soft import density_region, grow_in_box, soft_mask, soft_sphere
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.fsc import (
    crossing_shell,
    first_randomised_shell,
    fsc_curves,
    shell_correlation,
)
from cryotorch.ops.resolution.mask_tightening import Tightened, tighten

PX = 3.5
LOOSE = (25.0, 40.0)


def noise(box: int, seed: int, power: float = 0.0) -> torch.Tensor:
    """Two volumes of unit variance; amplitudes go as |k|^(power / 2)."""
    white = torch.randn(2, box, box, box, generator=torch.Generator().manual_seed(seed))
    k = volume_shells(box).clamp(min=1) / box
    spectrum = torch.fft.rfftn(white, dim=(1, 2, 3)) * k ** (power / 2)
    coloured = torch.fft.irfftn(spectrum, s=(box,) * 3, dim=(1, 2, 3))
    return coloured / coloured.std()


def shape(name: str, box: int) -> torch.Tensor:
    z, y, x = torch.meshgrid(*[torch.arange(box) - box // 2.0] * 3, indexing="ij")
    r = box / 5
    return {
        "ball": x**2 + y**2 + z**2 < r**2,
        "rod": (x**2 + y**2 < (r / 2) ** 2) & (z.abs() < 1.5 * r),
        "brick": (x.abs() < r) & (y.abs() < 0.5 * r) & (z.abs() < 1.2 * r),
        "ring": ((x**2 + y**2).sqrt() - r) ** 2 + z**2 < (r / 3) ** 2,
    }[name]


def tightened(halves: torch.Tensor, region: torch.Tensor, start=LOOSE, px=PX) -> Tightened:
    onset = first_randomised_shell(shell_correlation(*halves))
    return tighten(halves, px, region, onset, *start)


def claim(halves: torch.Tensor, mask: torch.Tensor, px: float = PX) -> int:
    return int(crossing_shell(fsc_curves(halves, px, mask, loose=mask)["corrected"]))


def agreement(halves: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> float:
    """The shell to which the mean map agrees with the truth in a mask."""
    curve = shell_correlation(halves.mean(0) * mask, truth * mask)
    return crossing_shell(curve, 0.5, interpolate=True)


def trap(box: int, seed: int, kind: str, source: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Half maps (2, d, d, d) that share a mask only, and the region that a mask would grow around."""
    region = shape(("ball", "rod", "brick", "ring")[seed % 4], box)
    mask = soft_mask(region, 0, 3 + seed % 3)
    halves = noise(box, seed, power=(0, -2, 2)[seed % 3]) * mask
    if kind == "blob":
        halves += 3 * low_pass(mask, PX, 30)
    elif kind == "mask":
        halves += 3 * mask
    if source == "map":
        region = density_region(halves.mean(0), PX, 0.5, 15)
    return halves, region


@pytest.mark.parametrize("source", ["shape", "map"])
@pytest.mark.parametrize("kind", ["noise", "blob", "mask"])
@pytest.mark.parametrize("box, seeds", [(32, 12), (48, 5), (49, 5), (64, 2)])
def test_noise_under_a_shared_mask_earns_nothing(box, seeds, kind, source):
    for seed in range(seeds):
        halves, region = trap(box, seed, kind, source)
        for start in (LOOSE, (6.0, 20.0)):
            first = grow_in_box(region, start[0] / PX, start[1] / PX)[0]
            found = tightened(halves, region, start)
            assert claim(halves, found.mask) <= claim(halves, first), (seed, start)


def test_the_trap_is_one():
    """The best curve of a row of masks would have been finer in many of those half maps."""
    tempted = 0
    for seed in range(24):
        halves, region = trap(32, seed, "noise", "shape")
        masks = [
            grow_in_box(region, near / PX, (near + 12) / PX)[0] for near in (25, 17, 12, 8, 6, 4)
        ]
        first, *others = (claim(halves, mask) for mask in masks)
        tempted += max(others) > first
    assert tempted >= 3


@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_earns_nothing(seed):
    halves = noise(48, seed)
    region = density_region(halves.mean(0), PX, 0.5, 20)
    found = tightened(halves, region)
    assert len(found.candidates) == 1 and (found.near, found.far) == LOOSE
    assert torch.equal(found.mask, grow_in_box(region, 25 / PX, 40 / PX)[0])
    assert found.reason.code == "tightening_untold"


@pytest.mark.parametrize("radius, edge", [(7, 3), (10, 6), (12, 4)])
@pytest.mark.parametrize("height", [1, 3])
def test_the_outline_of_a_soft_sphere_in_noise_is_not_structure(radius, edge, height):
    """A tighter mask does raise its signal-to-noise ratio, but only a mask's own transform is seen there."""
    for seed in range(2):
        halves = noise(48, seed) + height * soft_sphere(48, radius, edge)
        found = tightened(halves, density_region(halves.mean(0), PX, 0.5, 12))
        assert (found.near, found.far) == LOOSE


def phantom_halves(box: int, px: float, level: float, seed: int = 1, power: float = 0.0):
    truth = phantom(box, px, torch.eye(3)[None], seed)
    truth = truth / truth.std()
    return truth, truth + level * noise(box, seed, power)


@pytest.mark.parametrize("box, level, power", [(48, 4, 0), (64, 3, 0), (65, 3, 0), (64, 3, 1)])
def test_a_loose_mask_around_a_molecule_is_tightened_to_the_truth(box, level, power):
    px = 3.0
    truth, halves = phantom_halves(box, px, level, power=power)
    region = density_region(halves.mean(0), px, 0.3, 15)
    found = tightened(halves, region, px=px)
    before, after = (
        claim(halves, mask, px) for mask in (grow_in_box(region, 25 / px, 40 / px)[0], found.mask)
    )
    # where the curve is flat, as in red noise, the random phases move its crossing by one or two shells
    assert before + 2 <= after <= agreement(halves, truth, found.mask) + 3
    # what is said is what fsc_curves finds
    kept = [c for c in found.candidates if c.accepted]
    assert kept[0].resolution == pytest.approx(box * px / before)
    assert kept[-1].resolution == pytest.approx(box * px / after)
    assert kept[-1].randomised < 0.2
    assert (kept[-1].near, kept[-1].far) == (found.near, found.far)
    assert torch.equal(found.mask, grow_in_box(region, found.near / px, found.far / px)[0])
    assert kept[-1].fraction == pytest.approx(float(found.mask.mean()), rel=1e-5)
    fractions = [c.fraction for c in found.candidates]
    assert fractions == sorted(fractions, reverse=True) and len(found.candidates) <= 8
    for c in found.candidates[1:]:
        assert c.far - c.near >= 3 * px and c.near >= px
    assert found.far - found.near >= kept[-1].resolution
    assert found.reason.code.startswith("tight")
    again = tightened(halves, region, px=px)
    assert torch.equal(again.mask, found.mask) and again.candidates == found.candidates


@pytest.mark.data
@pytest.mark.parametrize("level, power", [(1, 0), (3, 0), (3, 1), (3, -1)])
def test_a_loose_mask_around_beta_galactosidase_is_tightened(shared_data, level, power):
    import gzip

    import numpy

    content = gzip.decompress((shared_data / "real" / "betaGal.mrc.gz").read_bytes())
    truth = torch.from_numpy(
        numpy.frombuffer(content, "<f4", offset=1024).reshape(100, 100, 100).copy()
    )
    px, truth = 3.54, truth / truth.std()
    halves = truth + level * noise(100, 1, power)
    region = density_region(halves.mean(0), px, 0.5, 15)
    found = tightened(halves, region, px=px)
    before, after = (
        claim(halves, mask, px) for mask in (grow_in_box(region, 25 / px, 40 / px)[0], found.mask)
    )
    # where the curve is flat, as in red noise, the random phases move its crossing by one or two shells
    assert before + 2 <= after <= agreement(halves, truth, found.mask) + 3
    first, last = found.candidates[0], [c for c in found.candidates if c.accepted][-1]
    assert last.fraction < 0.75 * first.fraction


def test_a_map_that_reaches_nyquist_keeps_its_mask():
    truth, halves = phantom_halves(48, 3.0, 0.05)
    region = density_region(truth, 3.0, 0.5, 15)
    found = tightened(halves, region, px=3.0)
    assert (found.near, found.far) == LOOSE and found.reason.code == "tightening_at_nyquist"
    assert [c.accepted for c in found.candidates] == [True]
    assert found.candidates[0].resolution == pytest.approx(6.0)


def test_density_outside_the_region_is_not_given_up():
    """A region around one part of a molecule: noise would be gained by leaving out the rest."""
    px = 3.0
    truth, halves = phantom_halves(64, px, 3)
    region = density_region(truth, px, 0.5, 15)
    region &= torch.arange(64) < 30
    found = tightened(halves, region, px=px)
    assert found.reason.code == "tighter_loses_density" and not found.candidates[-1].accepted
    kept, first = (
        (truth * mask).square().sum()
        for mask in (found.mask, grow_in_box(region, 25 / px, 40 / px)[0])
    )
    assert kept > 0.85 * first


def test_a_mask_that_is_tight_already_stays():
    px = 3.0
    truth, halves = phantom_halves(48, px, 4)
    region = density_region(truth, px, 0.5, 15)
    found = tightened(halves, region, (3.0, 12.0), px=px)
    assert (found.near, found.far) == (3.0, 12.0)
    assert found.reason.code == "tightening_at_nyquist"


def test_what_cannot_be_a_mask_is_refused():
    halves, region = noise(16, 0), shape("ball", 16)
    with pytest.raises(ValueError, match="near <= far"):
        tighten(halves, PX, region, 2, 9, 6)
    with pytest.raises(ValueError, match="empty"):
        tighten(halves, PX, region & False, 2, 6, 12)


@pytest.mark.slow
def test_a_mask_is_judged_quickly():
    _, halves = phantom_halves(128, 2.0, 4)
    region = density_region(halves.mean(0), 2.0, 0.5, 15)
    start = time.process_time()
    found = tightened(halves, region, px=2.0)
    assert time.process_time() - start < 2 * (
        len(found.candidates) + 2
    )  # 0.3 s each on an idle machine


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_masks_agree_on_cuda():
    truth, halves = phantom_halves(64, 3.0, 3)
    region = density_region(truth, 3.0, 0.5, 15)
    host, device = (tightened(halves.to(d), region.to(d), px=3.0) for d in ("cpu", "cuda"))
    assert (device.near, device.far) == (host.near, host.far) and device.mask.is_cuda
    assert torch.allclose(device.mask.cpu(), host.mask, atol=1e-5)
    assert device.reason == host.reason
