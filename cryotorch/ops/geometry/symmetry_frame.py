"""In which other frames a map may lie whose point group stays the same, or is the same about other axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.ops.geometry.symmetry import point_group

USUAL_FOLD = 12  # of axes that are tried in place of others
AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


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
    """The fold of the axis on z of a point group (g, 3, 3)."""
    return int((group[:, 2, 2] > 1 - 1e-6).sum())


def mates(group: Tensor) -> Tensor:
    """Turns (k, 3, 3) that leave the axes of a point group (g, 3, 3) where they are without belonging to it: its normaliser's cosets.

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


@dataclass(frozen=True)
class OtherAxes:
    """Axes that other programs or conventions may have used: a map on them is brought onto RELION's by ``turn`` (3, 3) float64.

    Attributes:
        group: (g, 3, 3), the operators of such a map; words: what the turn is.
    """

    turn: Tensor
    group: Tensor
    words: str


def other_axes(group: Tensor) -> list[OtherAxes]:
    """The usual other axes of a point group (g, 3, 3), each set of axes once; none for C1.

    Cn and Dn: 2-folds half a step further, and the main axis on x or y. T: 2-folds on x, y and z. O: a 3-fold on z. I: I1 to I4.
    """
    if len(group) == 1:
        return []
    group = group.double().cpu()
    known = [point_group(f"I{number}") for number in (1, 2, 3, 4)] if len(group) == 60 else []
    found: list[OtherAxes] = []
    for steps in _steps(group):
        whole = torch.eye(3, dtype=torch.float64)
        for name, angle in steps:
            whole = turn(AXES[name], angle) @ whole
        theirs = conjugate(group, whole.mT)
        usual = not known or any(same_group(theirs, g) for g in known)
        if usual and not any(same_group(theirs, g) for g in [group, *(f.group for f in found)]):
            words = [f"by {angle:.4g}° about {name}" for name, angle in steps]
            found.append(OtherAxes(whole, theirs, "a turn " + ", then ".join(words)))
    return found


def _steps(group: Tensor) -> list[list[tuple[str, float]]]:
    """Turns one after the other, (axis, degrees), the simplest first."""
    if len(group) == 60:
        tilts = [[("y", 31.71747)], [("y", -31.71747)]]
        quarter = [("z", 90.0)]
        before, after = ([[*quarter, *t] for t in tilts], [[*t, *quarter] for t in tilts])
        around = [[*quarter, *t, *quarter] for t in tilts]
        return [quarter, [("z", 180.0)], *tilts, *before, *after, *around]
    if not z_alone(group):
        from_diagonal = [("z", -45.0), ("y", -54.73561), ("z", -90.0)]
        onto_diagonal = [("y", 54.73561), ("z", 45.0)]
        turned = [[("z", angle), *onto_diagonal] for angle in (90.0, 180.0, 270.0)]
        of_t, of_o = [[("z", 180.0)], from_diagonal], [onto_diagonal, *turned]
        return [[("z", 90.0)], [("z", 45.0)], *(of_t if len(group) == 12 else of_o)]
    onto_z: list[list[tuple[str, float]]] = [[("y", 90.0)], [("z", 90.0), ("y", 90.0)]]
    half: list[list[tuple[str, float]]] = [[("z", 90.0)], [("z", 90 / z_fold(group))]]
    return [*half, *onto_z, *([*tilt, *step] for tilt in onto_z for step in half)]


def z_alone(group: Tensor) -> bool:
    """Whether a point group (g, 3, 3) is a Cn or a Dn: all axes but that on z lie across it."""
    return bool((group[:, 2, 2].abs() > 1 - 1e-6).all())


def named_groups(most: int) -> list[tuple[str, Tensor]]:
    """All point groups in RELION's axes but C1, with n-folds up to ``most``: names and rotations (g, 3, 3), larger ones first."""
    names = ["T", "O", *(f"I{number}" for number in (1, 2, 3, 4))]
    names += [f"{family}{fold}" for fold in range(2, most + 1) for family in "CD"]
    found = [(name, point_group(name)) for name in names]
    return sorted(found, key=lambda pair: -len(pair[1]))


def largest_group(asked: Tensor, fits: Callable[[Tensor], bool]) -> tuple[str, Tensor] | None:
    """The largest of the ``named_groups`` all of whose operators fit, in place of the one asked for (g, 3, 3); None where none does.

    ``fits`` is told sets (k, 3, 3) without the identity.
    """
    for name, group in named_groups(max(USUAL_FOLD, 2 * z_fold(asked))):
        if fits(group[1:3]) and fits(group[1:]):  # two of them tell most groups that do not fit
            return name, group
    return None
