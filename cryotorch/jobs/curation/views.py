"""No more than so many particles of one view, so that frequent views do not outweigh the others."""

from __future__ import annotations

import math

import numpy as np

from cryotorch.jobs.curation.particle_list import ParticleList
from cryotorch.ops.geometry.directions import even_views, nearest_views
from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.ops.geometry.symmetry import point_group


def cells(particles: ParticleList, spacing: float, symmetry: str) -> tuple[np.ndarray, int]:
    """The cell (n,) that each particle's viewing direction, or one of its copies by a point group, lies in, and how many cells there are.

    Cells are of one size, ``spacing`` degrees across (the square root of their area). Opposite directions are different views.

    Raises:
        InputError: the particles have no poses.
    """
    group = point_group(symmetry)
    count = max(1, round(4 * math.pi / math.radians(spacing) ** 2 / len(group)))
    direction = particles.rotation()[:, 2]  # R^T z
    view = fibonacci_directions(count) if len(group) == 1 else even_views(count, group)
    return nearest_views(direction, view, group)[0].numpy(), count


def capped(
    cell: np.ndarray, most: int | str, score: np.ndarray | None, seed: int
) -> tuple[np.ndarray, int]:
    """Whether each particle stays (n,) bool, and how many may in a cell: the best by ``score`` (n,), or at random.

    Args:
        cell: (n,) of each; most: a number, or "median" of the cells that are not empty.
    """
    size = np.bincount(cell)
    limit = max(1, int(np.median(size[size > 0]))) if isinstance(most, str) else most
    lead = -np.random.default_rng(seed).random(len(cell)) if score is None else -score
    order = np.lexsort((lead, cell))
    start = np.cumsum([0, *size])[:-1]
    rank = np.empty(len(cell), int)
    rank[order] = np.arange(len(cell)) - start[cell[order]]
    return rank < limit, limit
