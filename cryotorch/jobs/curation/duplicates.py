"""Particles that lie closer together than two particles can: one was picked twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from cryotorch.data.cryosparc.carried_columns import PREFIX
from cryotorch.data.cryosparc.fields import MICROGRAPH, MICROGRAPH_SHAPE, POSITION
from cryotorch.data.half_sets import HALF
from cryotorch.errors import InputError
from cryotorch.jobs.curation.particle_list import ParticleList

SHAPE = PREFIX + MICROGRAPH_SHAPE
FRACTIONS = (PREFIX + "location/center_x_frac", PREFIX + "location/center_y_frac")
# Å per pixel of micrographs, in the order in which they are believed; the last is that of the movies before they were binned.
MOVIE_PIXEL = "rlnMicrographOriginalPixelSize"
MICROGRAPH_PIXELS = (
    *("rlnMicrographPixelSize", PREFIX + "location/micrograph_psize_A"),
    MOVIE_PIXEL,
)


class Duplicates(NamedTuple):
    """What of a list is there twice.

    Attributes:
        stays: (n,) bool; pairs: (p, 2) rows that are too close to each other; across: how many of these are in different half sets.
    """

    stays: np.ndarray
    pairs: np.ndarray
    across: int


def pixel_label(particles: ParticleList) -> str | None:
    """The column with the pixel size of the micrographs; None where there is none."""
    return next((label for label in MICROGRAPH_PIXELS if label in particles.labels), None)


def centres(particles: ParticleList, pixel_size: float | None) -> np.ndarray:
    """Where each particle lies in its micrograph, (n, 2) Å: its position less its origin, which is what lies in the middle of its image.

    Positions in files of CryoSPARC are counted along the rows of the micrograph as it stores it, as its shifts are.

    Args:
        pixel_size: of the micrographs, Å; None = as the file says.

    Raises:
        InputError: positions, or the pixel size that they are counted in, are not known.
    """
    table, path = particles.table, particles.path
    if not all(label in table for label in POSITION):
        raise InputError(
            f"min_distance cannot be used: {path} has no positions of particles (_{POSITION[0]})"
        )
    x, y = (table.floats(label, path) for label in POSITION)
    if SHAPE in table:
        height, width = table.vectors(SHAPE, path).T
        y = height - y
        if all(label in table for label in FRACTIONS):  # the columns are whole pixels
            across, up = (table.floats(label, path) for label in FRACTIONS)
            x, y = across * width, up * height
    size = pixel_size
    if size is None:
        label = pixel_label(particles)
        size = particles.numbers(label) if label else np.zeros(1)
        if np.min(size) <= 0:
            raise InputError(
                f"min_distance cannot be used: {path} does not say what a pixel of its micrographs is: add micrograph_pixel_size=<Å>"
            )
    return np.stack([x, y], 1) * np.reshape(size, (-1, 1)) - particles.shift()


def find_duplicates(
    particles: ParticleList,
    distance: float,
    score: np.ndarray | None = None,
    pixel_size: float | None = None,
) -> Duplicates:
    """Particles closer than ``distance`` Å to a better one that stays.

    From the best ``score`` (n,) down, or in the order of the list, a particle stays unless one that stays is too close.

    Raises:
        InputError: positions or micrographs are not known.
    """
    if MICROGRAPH not in particles.table:
        raise InputError(
            f"min_distance cannot be used: {particles.path} does not name the micrographs (_{MICROGRAPH})"
        )
    where = centres(particles, pixel_size)
    _, micrograph = np.unique(particles.table.raw(MICROGRAPH), return_inverse=True)
    # micrographs lie above each other, farther apart than anything in them
    points = np.column_stack([where, 10.0 * distance * micrograph.ravel()])
    pairs = cKDTree(points).query_pairs(distance, output_type="ndarray")
    length = np.linalg.norm(where[pairs[:, 0]] - where[pairs[:, 1]], axis=1)
    pairs = pairs[length < distance]
    order = np.arange(len(particles)) if score is None else np.argsort(-score, kind="stable")
    rank = np.empty(len(particles), int)
    rank[order] = np.arange(len(particles))
    across = 0
    if HALF in particles.table:
        half = particles.table.floats(HALF, particles.path)
        across = int((half[pairs[:, 0]] != half[pairs[:, 1]]).sum())
    return Duplicates(_best_of_neighbours(pairs, rank), pairs, across)


def _best_of_neighbours(pairs: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Which of n rows stay (n,) bool when each, in the order of ``rank`` (n,), takes out those that it is paired with (p, 2)."""
    stays, undecided = np.ones(len(rank), bool), np.zeros(len(rank), bool)
    undecided[pairs.ravel()] = True
    first = np.where(rank[pairs[:, 0]] < rank[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    second = pairs.sum(1) - first
    while len(first):
        beaten = np.zeros(len(rank), bool)
        beaten[second] = True
        sure = undecided & ~beaten  # better than all that are still there around them
        lost = np.unique(second[sure[first]])
        stays[lost] = False
        undecided[lost] = False
        undecided[sure] = False
        left = undecided[first] & undecided[second]
        first, second = first[left], second[left]
    return stays
