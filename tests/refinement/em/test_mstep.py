"""The M-step: sums of all ranks, symmetric, solved for the map that they were made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.ops.fourier.slices import accumulator, extract_slices, insert_slices_, projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.geometry.symmetry import point_group, symmetrise_volume
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.em.mstep import gather, in_one_frame, solve
from cryotorch.refinement.runtime.ranks import Ranks


def sums_of(volume: torch.Tensor, n: int = 300):
    """Slices of a map in all directions, of weight 2."""
    box, sums = len(volume), accumulator(len(volume))
    frequency = half_plane(box).frequency
    rotation = random_rotations(n, torch.Generator().manual_seed(5))
    y = 2 * extract_slices(projector(volume), rotation, frequency)
    insert_slices_(sums, y, torch.full(y.shape, 2.0), rotation, frequency)
    return sums


def test_solving_gives_back_the_map(simulate: Callable, start: Callable, nothing_found) -> None:
    world = simulate()
    mask = soft_sphere(24, 8, 3)
    inserted = {0: sums_of(world.volume), 1: sums_of(3 * world.volume)}
    expectation = SimpleNamespace(
        state=start(world), settings=world.settings, sums=inserted, insertion_limit=12.0
    )
    _, halves, _ = in_one_frame(expectation, nothing_found(60), Ranks())
    solved = solve(halves, Ranks())
    assert solved.sums is halves and len(solved.weight[0]) == 13
    for factor, half_map in zip((1, 3), solved.half_maps, strict=True):
        curve = shell_correlation(half_map * mask, world.volume * mask)
        assert float(curve[1:10].min()) > 0.98
        grey = float((half_map * mask * world.volume).sum() / (world.volume**2 * mask).sum())
        assert grey == pytest.approx(factor, rel=0.1)


def test_sums_are_averaged_over_the_point_group(
    simulate: Callable, start: Callable, nothing_found: Callable
) -> None:
    world = simulate(symmetry="C1")
    group, mask = point_group("C2"), soft_sphere(24, 8, 3)
    s = replace(world.settings, group=group)
    inserted = {half: sums_of(world.volume) for half in (0, 1)}
    expectation = SimpleNamespace(
        state=start(world), settings=s, sums=inserted, insertion_limit=12.0
    )
    _, halves, _ = in_one_frame(expectation, nothing_found(60), Ranks())
    found = solve(halves, Ranks()).half_maps[0]
    curve = shell_correlation(found * mask, symmetrise_volume(world.volume, group) * mask)
    plain = shell_correlation(found * mask, world.volume * mask)
    assert float(curve[1:9].min()) > 0.97 and float(plain[5:9].max()) < 0.9


def test_what_is_not_finite_is_named(
    simulate: Callable, start: Callable, e_step: Callable, alone: Ranks
) -> None:
    expectation = e_step(world := simulate(16, 4.0), start(world))
    gather(expectation, alone, str)
    expectation.result.shift[3] = torch.nan
    with pytest.raises(InputError, match=r"^particle 3 gave values that are not finite"):
        gather(expectation, alone, "particle {}".format)
