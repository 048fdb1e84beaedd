"""Images that are in a set twice under different numbers: half sets that hold one each share its noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cryotorch.findings import Finding
from cryotorch.refinement.runtime.distributed import of_every_rank

SPOILT_SHARE = 0.02  # of the images with a twin in the other half set: what they share is an FSC of as much, or more, in every shell


class Twins(NamedTuple):
    """Images that are there twice.

    Attributes:
        warning: about them, None where there are none.
        spoil: whether the half sets share so many that their FSC says nothing.
    """

    warning: Finding | None
    spoil: bool


NONE_TWICE = Twins(None, False)


def over_ranks(marks: np.ndarray, world_size: int) -> np.ndarray:
    """Marks (n,) of images that any rank has read, see ``ParticleImages``; every rank must call it."""
    return marks if world_size == 1 else np.max(of_every_rank(marks, world_size), axis=0)


def twins(
    marks: np.ndarray, half: np.ndarray, address: np.ndarray, name: Callable[[int], str]
) -> Twins:
    """Images with equal marks (n,) at different addresses (n, 2); a mark of 0 is none.

    Rows with one address are one image, as symmetry expansion makes them: half sets (n,) hold it once. The ``name`` of a row is for
    the warning.
    """
    first_rows = np.zeros(len(marks), bool)
    first_rows[np.unique(address, axis=0, return_index=True)[1]] = True
    marks = np.where(first_rows, marks, 0).astype(np.uint64)
    known = np.flatnonzero(marks)
    _, place, count = np.unique(marks[known], return_inverse=True, return_counts=True)
    again = known[count[place] > 1]
    if not len(again):
        return NONE_TWICE
    in_half = [np.isin(marks, marks[again[half[again] == h]]) for h in (0, 1)]
    across = int((in_half[0] & in_half[1] & (marks != 0)).sum())
    first = int(again[0])
    second = int(again[marks[again] == marks[first]][1])
    count = dict(images=len(marks), twice=len(again), across=across)
    warning = Finding("images_twice", **count, one=name(first), other=name(second))
    return Twins(warning, across > SPOILT_SHARE * len(marks))
