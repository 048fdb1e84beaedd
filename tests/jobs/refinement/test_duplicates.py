"""Images that are there twice under different numbers."""

from __future__ import annotations

import numpy as np

from cryotorch.jobs.refinement.duplicates import NONE_TWICE, over_ranks, twins
from cryotorch.report.sentences import say

ADDRESS = np.stack([np.zeros(100, np.int64), np.arange(100)], 1)


def name(row: int) -> str:
    return f"{row + 1}@stack.mrcs"


def test_different_images_are_not_spoken_of() -> None:
    marks = np.arange(1, 101, dtype=np.uint64)
    assert twins(marks, np.arange(100) % 2, ADDRESS, name) == NONE_TWICE
    marks[40:60] = 0  # blank, or not read
    assert twins(marks, np.arange(100) % 2, ADDRESS, name) == NONE_TWICE
    assert over_ranks(marks, 1) is marks


def test_twins_are_counted_within_and_across_the_half_sets() -> None:
    marks = np.arange(1, 101, dtype=np.uint64)
    half = np.arange(100) % 2
    marks[[2, 4, 6]] = marks[0]
    found = twins(marks, half, ADDRESS, name)
    assert found.warning.values == dict(
        images=100, twice=4, across=0, one="1@stack.mrcs", other="3@stack.mrcs"
    )
    assert not found.spoil and "noise" not in say(found.warning)
    marks[9] = marks[8]
    found = twins(marks, half, ADDRESS, name)
    assert (found.warning["twice"], found.warning["across"]) == (6, 2)
    assert "passes for resolution" in say(found.warning) and not found.spoil
    marks[11] = marks[10]
    assert twins(marks, half, ADDRESS, name).spoil


def test_rows_of_one_image_are_no_twins() -> None:
    """As symmetry expansion makes them."""
    marks, half = np.repeat(np.arange(1, 51, dtype=np.uint64), 2), np.repeat(np.arange(50) % 2, 2)
    expanded = np.repeat(ADDRESS[:50], 2, axis=0)
    assert twins(marks, half, expanded, name) == NONE_TWICE
    assert twins(marks, half, ADDRESS, name).warning["twice"] == 100
