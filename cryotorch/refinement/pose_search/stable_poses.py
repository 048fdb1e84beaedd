"""Particles whose pose no longer needs a global search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_STABLE = (
    1  # global searches in a row that came back to the same pose, with no other in question
)
RECHECK_FRACTION = 0.05  # share of the settled that is searched all the same, others each time
# radians, pixels: half the finest step of the coarse search; a pose that moves further is new
FAR = math.radians(3.5), 1.0


def stable_poses(calm: Tensor, iteration: int) -> Tensor:
    """Which particles, (n,) bool by ``calm`` (n,) int64, are left out of the global search of an iteration."""
    chance = torch.rand(len(calm), generator=torch.Generator().manual_seed(iteration))
    return (calm >= MIN_STABLE) & (chance >= RECHECK_FRACTION)


def update_stability(calm: Tensor, turn: Tensor, move_px: Tensor, certain: Tensor) -> Tensor:
    """Count (n,) iterations that left no doubt, given how far poses (n,) moved in this one (NaN is far) and whether they are certain."""
    return torch.where((turn < FAR[0]) & (move_px < FAR[1]) & certain, calm + 1, 0)
