"""Work goes with the limit: what progress is counted in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cryotorch.refinement.class2d.settings import ClassSettings
from cryotorch.refinement.class2d.work import effort, limit_of, share_of_last, shifts_of, work
from cryotorch.refinement.settings import ImageGrid

HOW = ClassSettings(
    ImageGrid(64, 3.0, (32.0, 32.0)), 25.0, 10, 6.0, 24.0, 5.0, None, 5.0, 300, 21, 2, True, 0
)  # fmt: skip


def test_the_limit_rises_to_the_last_one() -> None:
    limits = [limit_of(k, HOW) for k in range(21)]
    assert limits[0] == 6.0 and limits[15:] == [24.0] * 6
    assert limits[5] == pytest.approx(12.0)


def test_effort_is_turns_times_shifts_times_pixels() -> None:
    """At 12 pixels: 38 turns, shifts 1.6 px apart within 5, 229 numbers of a half plane; at 24 twice the turns, nearer shifts, and those of 12 before."""
    extent, step, twice = shifts_of(12.0, HOW)
    assert (extent, step, twice) == (5.0, pytest.approx(1.6), False)
    shifts = sum((1.6 * x) ** 2 + (1.6 * y) ** 2 <= 25 for x in range(-3, 4) for y in range(-3, 4))
    pixels = effort(12.0, HOW) / (HOW.angles(12.0) * shifts)
    assert pixels == pytest.approx(3.1416 * 144 / 2, rel=0.1)
    assert shifts_of(24.0, HOW) == (pytest.approx(1.2), pytest.approx(0.8), True)
    assert effort(24.0, HOW) > effort(12.0, HOW)


def test_work_is_counted_in_images_of_the_last_pass() -> None:
    assert share_of_last(24.0, HOW) == 1 and share_of_last(6.0, HOW) < 0.3
    assert work(1000, HOW, 0, 2) == 2000
    whole = work(1000, HOW)
    assert 2000 + 6 * 300 < whole < 2000 + 21 * 300  # six iterations are as fine as the last
    assert work(1000, HOW, 3, 0) + (whole - work(1000, HOW, 3, 0)) == pytest.approx(whole)
    assert work(100, replace(HOW, passes=0)) == pytest.approx((whole - 2000) / 3)
