"""Particles whose pose no longer needs a global search."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CALM = 2  # global searches in a row that came back to the same pose
AGAIN = 0.05  # share of the settled that is searched all the same, others each time
FAR = (
    math.radians(3.5),
    1.0,
)  # radians, pixels: half the finest step of the coarse search; a pose that moves further is new


def settled(calm: Tensor, iteration: int) -> Tensor:
    """Which particles (n,) are left out of the global search of an iteration."""
    chance = torch.rand(len(calm), generator=torch.Generator().manual_seed(iteration))
    return (calm >= CALM) & (chance >= AGAIN)


def calmer(calm: Tensor, turn: Tensor, move_px: Tensor) -> Tensor:
    """Count (n,) iterations without a far move, given how far poses (n,) moved in this one; NaN is far."""
    return torch.where((turn < FAR[0]) & (move_px < FAR[1]), calm + 1, 0)
