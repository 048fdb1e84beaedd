"""References: what half sets share, where classes may differ, and what of a difference is believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.hetero import fixed_poses
from cryotorch.refinement.hetero.references import OWN, make_references
from tests.refinement.hetero.test_class_sums import sums_of


def one_hot(state: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(state, 2).float()


def test_half_sets_share_what_is_coarser_than_the_split_only(two_states: Callable) -> None:
    world = two_states(400, snr=1.0)
    mask = torch.ones(24, 24, 24)
    found = make_references(sums_of(world, one_hot(world.state)), 4.0, mask)
    for first, second in zip(*found.volumes, strict=True):
        curve = shell_correlation(first, second)
        assert float(curve[1:4].min()) > 0.9999
        assert float(curve[4:].max()) < 0.999


def test_classes_differ_in_the_focus_only(two_states: Callable) -> None:
    world = two_states(400, snr=5.0)
    focus = (torch.arange(24) > 12).float()[:, None, None].expand(24, 24, 24)
    mask = world.masks.solvent
    found = make_references(sums_of(world, one_hot(world.state)), 4.0, mask, focus)
    first, second = found.volumes[0]
    assert torch.allclose(first * (1 - focus), second * (1 - focus), atol=1e-4 * first.max())
    assert float((first - second).abs().max()) > 0.2 * float(first.max())


def test_differences_of_noise_are_not_believed(two_states: Callable) -> None:
    """Random classes: what they differ by is filtered to nothing, unless leniently."""
    world = two_states(400, snr=1.0)
    drawn = one_hot(torch.randint(2, (400,), generator=torch.Generator().manual_seed(0)))
    halves = sums_of(world, drawn)

    def power(lenient: bool) -> float:
        found = make_references(halves, 4.0, world.masks.solvent, lenient=lenient)
        first, second = found.volumes[0]
        return float((first - second).square().sum() / first.square().sum())

    assert power(False) < 0.1 * power(True)
    believed = make_references(sums_of(world, one_hot(world.state)), 4.0, world.masks.solvent)
    assert float(believed.difference[0, 1:6].min()) > 0.5


@pytest.mark.parametrize("symmetry", ["C1", "C4"])
def test_what_an_image_finds_of_itself(two_states: Callable, symmetry: str) -> None:
    """Images of noise in maps of nothing else: the part that they find is the one that is told."""
    world = two_states(600, noise_only=True)
    images, share = world.images, one_hot(torch.arange(600) // 2 % 2)
    halves = sums_of(world, share, symmetry)
    # nothing filtered: both halves the same
    alike = replace(halves, classes=halves.classes, pooled=torch.zeros_like(halves.pooled))
    mask, limit = world.masks.solvent, world.settings.limit
    influence = mask.mean() / alike.weight.clamp_min(1e-30)
    shell = half_plane(24).shell[: images.weight.shape[1]]
    found = told = 0.0
    for h in (0, 1):
        for k in (0, 1):
            rows = torch.nonzero((images.half == h) & (share[:, k] > 0))[:, 0]
            some = images.of(rows)
            p = fixed_poses._slices(some, projector(halves.classes[h, k] * mask, limit=limit))
            found += float(fixed_poses._cross(p, some.numerator).sum())
            told += float((some.weight * influence[h, k][shell]).sum())
    assert found == pytest.approx(OWN * told, rel=0.12)
