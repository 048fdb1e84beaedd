"""Several classes: their sizes, and what is said where the images do not support as many."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cryotorch.findings import codes
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.geometry.symmetry import rotate_volume
from cryotorch.refinement.ab_initio.classes import (
    class_findings,
    correspondence,
    likeness,
)


def turned(volume: Tensor, seed: int) -> Tensor:
    return rotate_volume(volume, random_rotations(1, torch.Generator().manual_seed(seed))[0])


def certain(*counts: int) -> Tensor:
    """(n, k) posteriors of images that are each in one class."""
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.nn.functional.one_hot(label, len(counts)).float()


def test_one_map_twice_is_told_and_two_molecules_are_not(begin: Callable) -> None:
    one, other = begin(20), begin(20, symmetry="D3")
    settings, leads = one.settings, torch.tensor([9.0, 8.0])
    same = torch.stack([one.volume, turned(one.volume, 1)])
    found = class_findings(same, certain(60, 40), leads, settings)
    assert codes(found) == ["class", "class", "classes_alike"]
    assert found[-1].serious and float(str(found[-1]["correlation"])) > 0.95
    assert (found[-1]["first"], found[-1]["second"], found[-1]["classes"]) == (1, 2, 2)
    two = torch.stack([one.volume, other.volume])
    found = class_findings(two, certain(60, 40), leads, settings)
    assert codes(found) == ["class", "class"] and not found[0].serious
    assert (found[0]["share"], found[1]["size"], found[0]["shapeless"]) == (0.6, 40, False)
    assert class_findings(two[:1], certain(60), leads[:1], settings) == []


def test_empty_and_shapeless_classes_are_told(begin: Callable) -> None:
    world = begin(20)
    maps = torch.stack([world.volume, torch.zeros_like(world.volume), world.volume])
    leads = torch.tensor([9.0, 1.0, 0.0])
    found = class_findings(maps, certain(300, 60, 1), leads, world.settings)
    assert codes(found) == ["class", "class", "class", "classes_empty"]
    assert [f["shapeless"] for f in found[:3]] == [False, True, True]
    assert (found[-1]["empty"], found[-1]["classes"]) == (1, 3)


def test_maps_of_two_starts_are_paired_and_those_without_weight_left_out(begin: Callable) -> None:
    one, other = begin(20), begin(20, symmetry="D3")
    settings, flat = one.settings, torch.zeros_like(one.volume)
    wanted = torch.stack([one.volume, other.volume, flat])
    maps = torch.stack([turned(other.volume, 2), turned(one.volume, 3)])
    weight = torch.tensor([0.6, 0.3, 0.0])
    assert correspondence(maps, wanted, weight, 6.0, settings) > 0.95
    assert correspondence(maps[:1], wanted, weight, 6.0, settings) < 0.9
    assert likeness(flat, one.volume, 6.0, settings) == 0
