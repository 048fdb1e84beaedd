"""Cells of poses for a hierarchical search: their edges level by level, centres that fill a ball, children, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.refinement.pose_search.search import Reference, grid_step
from cryotorch.refinement.settings import SearchExtent, SearchSettings

MAX_CELL = 1.0  # limit times edge, radians: in smaller cells Gauss-Newton finds the peak
MIN_EDGE = 1e-6  # radians or pixels: an edge that is not halved


@dataclass(frozen=True)
class Level:
    """Cells of a level: Fourier limit, and the edges of a cell in radians and in pixels."""

    limit: float
    turn: float
    move: float

    @property
    def turn_radius(self) -> float:
        """From the centre of a cube to its corners."""
        return self.turn * math.sqrt(3) / 2

    @property
    def move_radius(self) -> float:
        """From the centre of a square to its corners."""
        return self.move / math.sqrt(2)


def levels(
    reference: Reference, settings: SearchSettings, extent: SearchExtent | None = None
) -> list[Level]:
    """Steps halve while the limit grows to the current one, and on until a cell is ``MAX_CELL``."""
    box = reference.slices.box
    limit, turn = reference.coarse_limit, grid_step(reference.coarse_limit, settings)
    move = max(1.0, box / (4 * limit))
    if extent is not None:
        turn, move = min(turn, 2 * extent.rotation), min(move, 2 * extent.shift)
    found = [Level(limit, turn, move)]
    while limit < reference.limit or limit * turn > MAX_CELL:
        limit = min(reference.limit, math.floor(1.6 * limit + 1))
        turn, move = turn / 2, move / 2
        found.append(Level(limit, turn, move))
    return found


def filled(grid: Callable[[float, float], Tensor], radius: float, step: float, n: int) -> Tensor:
    """Centres (c, n) of cells that fill a ball, those outside by less than half an edge among them."""
    return grid(0.999 * (radius + step / 2), step) if step > MIN_EDGE else torch.zeros(1, n)


def corners(n: int, step: float) -> Tensor:
    """Centres (2^n, n) of the children, of edge ``step``, in their parent."""
    if step <= MIN_EDGE:
        return torch.zeros(1, n)
    return torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * n) * step


@dataclass(frozen=True)
class Cells:
    """At most k cells per image, best first: rotation (b, k, 3, 3), offset (b, k, 2) pixels, score (b, k), alive (b, k).

    The shift is the offset; a prior adds its centre and the swing about its fulcrum.
    """

    rotation: Tensor
    offset: Tensor
    score: Tensor
    alive: Tensor


def peaks(cells: Cells, at: Level, rotation: Tensor, offset: Tensor, score: Tensor) -> Tensor:
    """The cells alive with no better one within two edges (b, k) bool; a known pose per image counts as one of them.

    ``rotation`` (b, 3, 3), ``offset`` (b, 2) and ``score`` (b,) are the known pose's.
    """
    least = math.cos(min(2 * at.turn, math.pi)) - 1e-6

    def near(rotation: Tensor, offset: Tensor) -> Tensor:
        cosine = (cells.rotation.flatten(2) @ rotation.flatten(2).mT - 1) / 2
        return (cosine >= least) & (torch.cdist(cells.offset, offset) <= 2 * at.move + 1e-6)

    k = cells.alive.shape[1]
    better = torch.ones(k, k, dtype=torch.bool, device=score.device).tril(-1) & cells.alive[:, None]
    beside = (near(cells.rotation, cells.offset) & better).any(-1)
    beside |= near(rotation[:, None], offset[:, None])[..., 0] & (cells.score <= score[:, None])
    return cells.alive & ~beside


@dataclass(frozen=True)
class Families:
    """Hypotheses as f families of r rotations by t offsets: image, slot (f,), rotation (f, r, 3, 3), offset (f, t, 2), score (f, r, t).

    An image's families have different slots: the cells they came from.
    """

    image: Tensor
    slot: Tensor
    rotation: Tensor
    offset: Tensor
    score: Tensor

    def table(self, images: int) -> tuple[Tensor, Tensor]:
        """Scores (b, slots, r, t), -inf where there is no family, and which family is in a slot (b, slots)."""
        slots = int(self.slot.max()) + 1 if len(self.slot) else 1
        score = self.score.new_full((images, slots, *self.score.shape[1:]), -math.inf)
        score[self.image, self.slot] = self.score
        family = self.slot.new_zeros(images, slots)
        family[self.image, self.slot] = torch.arange(len(self.slot), device=self.slot.device)
        return score, family
