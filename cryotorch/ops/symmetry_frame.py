"""In which other frames a map may lie whose point group stays the same, or is the same about other axes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.rotations import from_rotation_vector
from cryotorch.ops.symmetry import point_group

SAME = 1e-6  # elements of rotation matrices that differ by less are equal


def turn(axis: tuple[float, float, float], degrees: float) -> Tensor:
    """Rotation (3, 3) float64 by an angle about an axis of any length."""
    unit = torch.tensor(axis, dtype=torch.float64)
    return from_rotation_vector(unit / unit.norm() * math.radians(degrees))


def conjugate(group: Tensor, rotation: Tensor) -> Tensor:
    """The point group (g, 3, 3) of a map that is turned by ``rotation`` (3, 3): T G T^-1."""
    return rotation @ group @ rotation.mT


def same_group(first: Tensor, second: Tensor) -> bool:
    """Whether two sets of rotations (g, 3, 3) hold the same ones, in any order."""
    if len(first) != len(second):
        return False
    apart = (first[:, None] - second).abs().amax((-2, -1))
    return bool((apart.amin(1) < 1e-4).all())


def holds(group: Tensor, rotation: Tensor) -> bool:
    """Whether a rotation (3, 3) is one of a group's (g, 3, 3)."""
    return bool((group - rotation).abs().amax((1, 2)).min() < 1e-4)


def z_fold(group: Tensor) -> int:
    """The fold of the axis on z."""
    return int((group[:, 2, 2] > 1 - 1e-6).sum())


def mates(group: Tensor) -> Tensor:
    """Turns (k, 3, 3) that leave the axes of a point group where they are without belonging to it: its normaliser's cosets.

    A map turned by one of them has the same symmetry about the same axes, and is another map: a half step about z for Dn, the
    turns of the octahedron for D2 (five) and T (one); none for O and I. Of Cn, where any angle about z does so, the half step
    about z, the flip that turns z over, and both; none for C1, where every turn does.
    """
    if len(group) == 1:
        return group[:0]
    group = group.double().cpu()
    fold = z_fold(group)
    steps = [turn((0, 0, 1), 180 / fold * i) for i in range(2)]
    pool = [step @ flip for step in steps for flip in (steps[0], turn((1, 0, 0), 180))]
    if fold == 2:
        pool += list(point_group("O"))
    found: list[Tensor] = []
    for candidate in pool:
        new = not any(holds(group, known.mT @ candidate) for known in [group[0], *found])
        if new and same_group(conjugate(group, candidate), group):
            found.append(candidate)
    return torch.stack(found) if found else group[:0]
