"""The same pixels have the same mark, whatever number they have and wherever they lie."""

from __future__ import annotations

import numpy as np

from cryotorch.data.image_marks import marks_of

IMAGES = np.random.default_rng(0).normal(size=(200, 8, 8)).astype(np.float32)


def test_images_are_told_apart_by_their_middle_row() -> None:
    marks = marks_of(IMAGES)
    assert marks.dtype == np.uint64 and len(set(marks.tolist())) == 200
    assert np.array_equal(marks_of(IMAGES[::-1]), marks[::-1])
    assert marks_of(IMAGES[7:8])[0] == marks[7]
    elsewhere = IMAGES.copy()
    elsewhere[:, 0] = 0
    assert np.array_equal(marks_of(elsewhere), marks)
    elsewhere[3, 4, 0] += 1e-3
    assert np.flatnonzero(marks_of(elsewhere) != marks).tolist() == [3]


def test_marks_do_not_depend_on_how_images_lie_in_memory() -> None:
    assert np.array_equal(marks_of(np.asfortranarray(IMAGES)), marks_of(IMAGES))
    assert marks_of(IMAGES[:0]).shape == (0,)


def test_marks_stay_the_same_from_version_to_version() -> None:
    """Caches keep them."""
    row = np.arange(4, dtype=np.float32)
    assert int(marks_of(np.tile(row, (1, 4, 1)))[0]) == 5495844738850925895
