"""What classes may show that is no other state: one map twice, at another pose, or what differs between micrographs or optics groups."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.particle_file import ParticleFile
from cryotorch.findings import Finding
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.geometry.symmetry import move_volume
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.half_sets import image_numbers

MICROGRAPH = "rlnMicrographName"
DRAWS = 100  # of chance
MIN_LEAD = 5.0  # standard deviations of chance from which on classes go with something
PROMISED = 0.5  # FSC of shells that are compared
EXPLAINED = 0.7  # part of a difference that a move must take away


class Move(NamedTuple):
    """From one map to another: angle, degrees, and shift, Å."""

    angle: float
    shift: float


def lacking(first: Tensor, second: Tensor) -> Tensor:
    """What the FSC of two maps, given as halves (2, d, d, d) each, lacks of what their halves promise, (s,) of the shells that count.

    sqrt(F' F'') - FSC(mean, mean')      F' = 2 F / (1 + F) of each mean by the FSC F of its halves
    """
    promised = torch.ones((), dtype=torch.float64)
    for halves in (first, second):
        curve = shell_correlation(*halves).clamp(0, 1)
        promised = promised * (2 * curve / (1 + curve))
    promised = promised.sqrt()[1:]
    found = shell_correlation(first.mean(0), second.mean(0))[1:]
    there = (promised < PROMISED).cumsum(0) == 0
    return (promised - found)[there]


def move_between(first: Tensor, second: Tensor, pixel_size: float) -> Move | None:
    """By how much one map is the other moved, halves (2, d, d, d) each, where a move explains most of what they differ by."""
    before, resolution = lacking(first, second), None
    if len(before):
        finest = len(before) * 0.999
        resolution = max(first.shape[-1] * pixel_size / finest, 2.5 * pixel_size)
    try:
        maps = (second.mean(0), first.mean(0))
        fit = fit_map(*maps, pixel_size, resolution, hand="same")
    except ValueError:  # no density
        return None
    box = first.shape[-1]
    place = pixel_size, fit.rotation.float(), fit.shift.float(), box, pixel_size
    moved = torch.stack([move_volume(half, *place) for half in second])
    left = lacking(first, moved).clamp_min(0).sum()
    if float(left) > (1 - EXPLAINED) * float(before.clamp_min(0).sum()):
        return None
    angle = float(rotation_angle(fit.rotation, torch.eye(3).double()))
    return Move(math.degrees(angle), float(fit.shift.norm()))


def beyond_chance(label: Tensor, group: Tensor, seed: int) -> float:
    """By how many standard deviations of chance the classes (n,) of images differ between groups (n,), by chi squared; 0 for one group."""
    groups, classes = int(group.max()) + 1, int(label.max()) + 1
    if groups < 2 or classes < 2:
        return 0.0
    expected = torch.outer(torch.bincount(group).double(), torch.bincount(label).double())
    expected = (expected / len(label)).clamp_min(1e-30)

    def chi(drawn: Tensor) -> float:
        table = torch.bincount(group * classes + drawn, minlength=groups * classes)
        return float(((table.view(groups, classes) - expected).square() / expected).sum())

    draw = torch.Generator().manual_seed(seed)
    chance = torch.tensor(
        [chi(label[torch.randperm(len(label), generator=draw)]) for _ in range(DRAWS)]
    )
    return (chi(label) - float(chance.mean())) / max(float(chance.std()), 1e-12)


def goes_with(label: Tensor, file: ParticleFile, seed: int) -> list[Finding]:
    """What of optics groups and micrographs the classes (n,) of the rows of a file go with; rows of one image count once."""
    first = np.unique(image_numbers(file.particles).cpu().numpy(), return_index=True)[1]
    groups = {"optics groups": file.particles.optics_group.cpu().numpy()}
    table = file.tables["particles"]
    if MICROGRAPH in table:
        groups["micrographs"] = table.raw(MICROGRAPH)
    findings, some = [], label.cpu()[first]
    for what, values in groups.items():
        number = torch.from_numpy(np.unique(values[first], return_inverse=True)[1].ravel())
        lead = beyond_chance(some, number, seed)
        if lead > MIN_LEAD:
            findings.append(Finding("classes_go_with", what=what, lead=lead))
    return findings
