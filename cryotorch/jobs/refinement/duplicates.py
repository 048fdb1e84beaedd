"""Images that are in a set twice under different numbers: half sets that hold one each share its noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cryotorch.refinement.runtime.distributed import of_every_rank

SPOILT = 0.02  # of the images with a twin in the other half set: what they share is an FSC of as much, or more, in every shell


class Twins(NamedTuple):
    """Images that are there twice.

    Attributes:
        sentence: about them, "" where there are none.
        spoil: whether the half sets share so many that their FSC says nothing.
    """

    sentence: str
    spoil: bool


NONE_TWICE = Twins("", False)


def over_ranks(marks: np.ndarray, world_size: int) -> np.ndarray:
    """Marks (n,) of images that any rank has read, see ``ParticleImages``; every rank must call it."""
    return marks if world_size == 1 else np.max(of_every_rank(marks, world_size), axis=0)


def twins(
    marks: np.ndarray, half: np.ndarray, address: np.ndarray, name: Callable[[int], str]
) -> Twins:
    """What is to be said about images with equal marks (n,) at different addresses (n, 2); a mark of 0 is none.

    Rows with one address are one image, as symmetry expansion makes them: half sets (n,) hold it once. The ``name`` of a row is for
    the sentence.
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
    told = (
        f"{len(again)} of {len(marks)} images hold the same pixels as another one, {name(first)} as {name(second)} for example, and "
        f"{across} of them as one of the other half set"
    )
    if across:
        told += ": the half maps share their noise, which passes for resolution"
    return Twins(
        f"{told}. Remove duplicates: particles that were picked or extracted twice, or files that were joined twice",
        across > SPOILT * len(marks),
    )
