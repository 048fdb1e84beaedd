"""Particles whose pose no longer needs a global search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Global searches in a row that came back to the same pose, with no other in question.
MIN_STABLE = 1
RECHECK_FRACTION = 0.05  # share of the stable that is searched all the same, others each time
# radians, pixels: half the finest step of the coarse search; a pose that moves further is new
SAME_POSE = math.radians(3.5), 1.0


def stable_poses(stable_iterations: Tensor, iteration: int) -> Tensor:
    """Which particles, (n,) bool by ``calm`` (n,) int64, are left out of the global search of an iteration."""
    chance = torch.rand(len(stable_iterations), generator=torch.Generator().manual_seed(iteration))
    return (stable_iterations >= MIN_STABLE) & (chance >= RECHECK_FRACTION)


def update_stability(
    stable_iterations: Tensor, turn: Tensor, move_px: Tensor, certain: Tensor
) -> Tensor:
    """Count (n,) iterations that left no doubt, given how far poses (n,) moved in this one (NaN is far) and whether they are certain."""
    return torch.where(
        (turn < SAME_POSE[0]) & (move_px < SAME_POSE[1]) & certain, stable_iterations + 1, 0
    )
