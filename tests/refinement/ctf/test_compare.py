"""Images beside slices of half maps: samples, what a mask gathers, and a grey scale that is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.refinement.ctf.compare import Comparison, gathered, pick_sample
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.settings import CtfTargets, ImageGrid


def test_a_sample_is_spread_over_the_file_and_read_anew() -> None:
    images = torch.arange(100.0)[:, None, None].expand(-1, 2, 2)
    read = pick_sample(Batches(images, torch.arange(100) % 2, 10), per_half=10, size=4)
    for _ in range(2):
        batches = list(read())
        assert [(b.half, len(b.index)) for b in batches] == [
            (h, n) for h in (0, 1) for n in (4, 4, 2)
        ]
        rows = torch.cat([b.index for b in batches[:3]])
        assert rows.tolist() == [0, 10, 20, 32, 42, 54, 64, 76, 86, 98]
        assert torch.equal(torch.cat([b.images[:, 0, 0] for b in batches[:3]]), rows.float())


@pytest.mark.parametrize(
    ("radius", "expected", "within"),
    [(None, 1.0, 1e-9), (10, 1.125 * 32**2 / (3.1416 * 100), 0.03)],
)
def test_what_a_mask_gathers(radius: float | None, expected: float, within: float) -> None:
    """The mean square of its thickness over the square of the mean: of a ball 9/8 over the circle's part of the square."""
    mask = torch.ones(32, 32, 32) if radius is None else soft_sphere(32, radius, 0)
    assert gathered(mask) == pytest.approx(expected, rel=within)


@pytest.fixture
def compared(simulate: Callable):
    """Images of half the grey scale of the map, with noise of variance 1."""
    world = simulate(200, 2.0, groups=2)
    grid = ImageGrid.whole(24, 4.0)
    references = 2 * world.volume.repeat(2, 1, 1, 1)
    what = CtfTargets(10.0, tilt=False, trefoil=False)
    one = Comparison(world.truth, references, what, grid)
    return world, one, pick_sample(world.batches(50)), torch.ones(2, 2, 13)


def test_grey_scale_noise_and_match_are_found(compared) -> None:
    _, one, sample, noise = compared
    found = one.calibrate(sample, noise)
    shells = slice(2, 9)
    assert found.amplitude[shells] == pytest.approx(0.5, abs=0.02)
    assert found.noise[shells] == pytest.approx(1, abs=0.1)
    assert found.match > 240


def test_images_of_the_opposite_contrast_match_the_other_way(compared) -> None:
    _, one, sample, noise = compared
    one.references = -one.references
    assert one.calibrate(sample, noise).match < -240


def test_groups_and_limits(compared) -> None:
    world, one, *_ = compared
    rows = torch.tensor([0, 150, 3, 199])
    places = {group: at.tolist() for group, at in one.groups(rows)}
    assert places == {0: [0, 2], 1: [1, 3]}
    rotation, shift = one.poses(rows)
    assert torch.equal(rotation, world.truth.rotation[rows])
    torch.testing.assert_close(shift, world.truth.shift[rows] / 4.0)
    radius = one.frequency(0).norm(dim=1)
    assert len(radius) == one.count and float(radius.max()) == pytest.approx(10.5 / 96, rel=0.05)
    assert float(radius[: one.defocus_from].max()) <= 5.3 / 96  # 20 Å are 4.8 shells
    bent = world.truth.replace(
        optics=world.truth.optics.replace(magnification=1.1 * torch.eye(2).repeat(2, 1, 1))
    )
    torch.testing.assert_close(
        Comparison(bent, one.references, one.what, one.grid).frequency(1), 1.1 * one.frequency(1)
    )
    assert replace(one.what, tilt=True).optics
