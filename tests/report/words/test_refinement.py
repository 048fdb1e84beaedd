"""Sentences on a refinement: half sets, hands, symmetry, and its end."""

from __future__ import annotations

import math

import pytest

from cryotorch.findings import Finding, remark
from cryotorch.report.sentences import say
from cryotorch.report.words.refinement import lasting


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("drawn", "half sets drawn with seed 3: 20 and 21 particles"),
        ("kept", "half sets kept as in the input: 20 and 21 particles"),
        ("completed", "half sets kept, and drawn with seed 3 for the 5 particles without one: 20 and 21 particles"),
    ],
)  # fmt: skip
def test_where_half_sets_come_from(how: str, said: str) -> None:
    found = Finding("half_sets", how=how, seed=3, drawn=5, first=20, second=21)
    assert say(found) == said


def test_poses_that_hardly_match_are_told_with_the_grey_scale() -> None:
    fine = Finding("grey_scale", factor=0.01234, match=None)
    assert say(fine) == "grey scale of the initial map multiplied by 0.0123"
    assert "WARNING: the poses hardly match the map (correlation 1.5" in say(fine.plus(match=1.5))


def test_the_ways_out_of_a_symmetry_that_is_not_shown() -> None:
    values = dict(symmetry="D2", resolution=8.0, lowest=0.31, highest=0.31)
    none = say(Finding("symmetry_not_shown", **values, remedies=()))
    assert "only 31% as well" in none and none.endswith("take C1")
    turn = (Finding("turn_fits", turn="a turn by 90° about y", symmetry="D2"),)
    some = say(Finding("symmetry_not_shown", **{**values, "highest": 0.4}, remedies=turn))
    assert "only 31% to 40% as well" in some and "or give symmetry=D2" in some
    assert "take C1" not in some


def test_why_a_run_has_not_converged() -> None:
    jumped = Finding("resolution_jumped", before=4.0, now=math.nan)
    found = Finding("not_converged", resolution=jumped, poses=None)
    assert "in the last iteration the resolution went from 4.00 Å to no resolution: map" in say(
        found
    )


def test_images_that_stand_twice_in_a_set() -> None:
    found = Finding("images_twice", images=40, twice=6, across=0, one="1@a", other="7@a")
    assert "6 of 40 images" in say(found) and "noise" not in say(found)
    assert "the half maps share their noise" in say(found.plus(across=2))


def test_how_long_a_run_will_take_is_said_in_two_digits() -> None:
    spans = [(0, "0 s"), (8.26, "8.3 s"), (89.4, "89 s"), (100, "1.7 min"), (5e3, "83 min")]
    spans += [(6000, "1.7 h"), (2e5, "2.3 days")]
    assert [lasting(seconds) for seconds, _ in spans] == [text for _, text in spans]
    left = remark("time_left", least=130.0, most=310.0, fewest=1, many=4, ctf=False)
    assert say(left) == "2.2 to 5.2 min left, for 1 to 4 iterations"
    one = remark("time_left", least=30.0, most=30.2, fewest=1, many=1, ctf=True)
    assert say(one) == "about 30 s left, for 1 iteration, what refining the CTF takes not counted"
