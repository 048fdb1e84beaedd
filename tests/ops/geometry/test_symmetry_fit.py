"""Sums without symmetry show their own, whatever the views were, and no other."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.reconstruct import Sums, collect
from cryotorch.ops.fourier.slices import (
    accumulator,
    extract_slices,
    insert_slices_,
    merge_,
    projector,
)
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.geometry.symmetry import in_asymmetric_unit, point_group
from cryotorch.ops.geometry.symmetry_fit import SymmetryFit
from cryotorch.ops.models.phantom import phantom

BOX = 40


@lru_cache
def molecule(name: str) -> Tensor:
    return phantom(BOX, 4.0, point_group(name))


def views(n: int, name: str, kind: str, generator: torch.Generator) -> Tensor:
    """Rotations (n, 3, 3): all over, preferred to one side, or all in the asymmetric unit, as refinements leave them."""
    rotation = random_rotations(20 * n, generator)
    if kind == "preferred":
        odds = torch.exp(3 * (rotation[:, 2, 0].abs() - 1))
        keep = torch.rand(len(odds), generator=generator) < odds
        rotation = rotation[keep]
    if kind == "unit":
        rotation = rotation[:n]
        for g in point_group(name).float():
            copy = rotation @ g
            inside = in_asymmetric_unit(copy[:, 2], point_group(name))
            rotation = torch.where(inside[:, None, None], copy, rotation)
    return rotation[:n]


def sums_of(
    name: str, kind: str = "all", noise: float = 1.0, n: int = 150, seed: int = 1
) -> list[Sums]:
    """Of both half sets; ``noise`` is its standard deviation in units of the slices' own."""
    generator = torch.Generator().manual_seed(seed)
    plane, table = half_plane(BOX), projector(molecule(name))
    halves = []
    for _ in range(2):
        rotation = views(n, name, kind, generator)
        slices = extract_slices(table, rotation, plane.frequency)
        slices = slices + noise * slices.abs().square().mean().sqrt() * torch.randn(
            slices.shape, dtype=slices.dtype, generator=generator
        )
        sums = accumulator(BOX, 1, torch.device("cpu"))
        insert_slices_(sums, slices, torch.ones(slices.shape), rotation, plane.frequency)
        merge_(sums)
        halves.append(collect(sums))
    return halves


@pytest.mark.parametrize("noise", [0.3, 2.0])
@pytest.mark.parametrize("kind", ["all", "preferred", "unit"])
@pytest.mark.parametrize("name", ["C2", "C4", "D3", "D7", "O", "I"])
def test_a_symmetry_that_is_there_is_never_contradicted(name: str, kind: str, noise: float) -> None:
    look = SymmetryFit(sums_of(name, kind, noise), BOX / 2 - 1, 0.42)
    if not look.resolves:
        return
    fit = look(point_group(name)[1:])
    assert not fit.wrong.any()
    if kind == "all":
        assert fit.right.all() and fit.score.min() > 0.8 and fit.score.max() < 1.2
    if kind != "unit":
        assert not fit.score.isnan().any()


@pytest.mark.parametrize(
    "name, other",
    [("C2", "C4"), ("C4", "D4"), ("D3", "D6"), ("D7", "D14"), ("O", "I"), ("I", "I1")],
)
def test_operators_that_are_not_there_are_contradicted(name: str, other: str) -> None:
    fit = SymmetryFit(sums_of(name, "all", 0.5), BOX / 2 - 1, 0.42)(point_group(other)[1:])
    own = torch.stack(
        [(point_group(name) - r).abs().amax((1, 2)).min() < 1e-6 for r in point_group(other)[1:]]
    )
    assert not (fit.wrong & own).any() and fit.right[own].all()
    assert fit.wrong[~own].float().mean() > 0.9 and fit.score[~own].max() < 0.5


def test_noise_shows_nothing() -> None:
    look = SymmetryFit(sums_of("D3", "all", 100.0), BOX / 2 - 1, 0.42)
    assert not look.resolves
