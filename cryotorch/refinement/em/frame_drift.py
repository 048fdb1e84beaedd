"""Keep the map where the initial map was.

The likelihood does not change when a map and all its poses turn or move together, so nothing in the iterations holds the frame:
with particles that reach the box's edge it is measured to creep by 0.05 degrees and 0.03 Å an iteration. The poses of the first
iteration were found against the initial map; the mean offset of later poses from them is the drift, and is taken out of the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.geometry.rotations import (
    from_rotation_vector,
    rotation_angle,
    to_rotation_vector,
)

MAX_DRIFT = 0.35  # radians: particles that moved further since have found another pose, not drifted


@dataclass(frozen=True)
class Drift:
    """A turn and a move of the frame: R_i = B_i exp(turn) and s_i = a_i + (R_i move)_xy for poses (B, a) without it.

    Attributes:
        turn: (3,) rotation vector, radians; move: (3,) in the unit of the shifts.
    """

    turn: Tensor
    move: Tensor


def no_drift() -> Drift:
    """The frame is where it was."""
    return Drift(torch.zeros(3), torch.zeros(3))


def estimate_drift(
    rotation: Tensor, shift: Tensor, anchor_rotation: Tensor, anchor_shift: Tensor, group: Tensor
) -> Drift:
    """The drift of poses (rotation (n, 3, 3), shift (n, 2)) since the anchor's, as far as the point group (g, 3, 3) leaves it free.

    The turn is the median of the particles' own, the move the least-squares one over all particles but outliers.
    """
    group = group.to(rotation)
    best, mate = torch.full((len(rotation),), torch.inf), anchor_rotation
    for g in group:
        copy = anchor_rotation @ g
        angle = rotation_angle(rotation, copy)
        mate = torch.where((angle < best)[:, None, None], copy, mate)
        best = torch.minimum(best, angle)
    near = best < MAX_DRIFT
    if near.sum() < 8:
        return no_drift()
    free = group.mean(0)  # projects on the vectors that every element of the group leaves alone
    own = to_rotation_vector(mate[near].mT @ rotation[near])
    turn = free @ own.median(0).values
    rows, offset = rotation[near, :2], (shift - anchor_shift)[near]
    length = offset.norm(dim=1)
    usual = length <= 4 * length.median() + 1e-6
    solved = torch.linalg.lstsq(
        rows[usual].flatten(0, 1).double(), offset[usual].reshape(-1, 1).double()
    )
    return Drift(turn, free @ solved.solution[:, 0].to(turn))


def remove_drift(drift: Drift, rotation: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Poses (b, 3, 3), (b, 2) in the frame without the drift; shifts in the drift's unit."""
    move, back = drift.move.to(rotation), from_rotation_vector(-drift.turn.to(rotation))
    return rotation @ back, shift - (rotation[:, :2] @ move)
