"""Chosen rows against a re-computation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.star import Table, write_star
from cryotorch.errors import InputError
from cryotorch.jobs.curation import choose
from cryotorch.jobs.curation.particle_list import UID


def test_the_best(make_list) -> None:
    value = np.random.default_rng(1).integers(0, 9, 30).astype(float)
    some = make_list(rlnScore=value)
    for score, sign in (("rlnScore", 1), ("-_rlnScore", -1)):
        rows = choose.best_rows(choose.score_of(some, score), 0.4, True)
        ranked = sorted(range(30), key=lambda i: (-sign * value[i], i))
        assert rows.tolist() == sorted(ranked[:12])
    assert len(choose.best_rows(value, 7, False)) == 7
    assert len(choose.best_rows(value, 70, False)) == 30
    with pytest.raises(InputError, match=r"score=-rlnSore cannot .*did you mean rlnScore"):
        choose.score_of(some, "-rlnSore")


def test_micrographs_by_list_text_and_star(make_list, tmp_path: Path) -> None:
    some = make_list()
    (tmp_path / "good.txt").write_text("# good ones\nMicrographs/m0.mrc\n\n Micrographs/m2.mrc \n")
    table = Table({"rlnMicrographName": ["elsewhere/m0.mrc", "elsewhere/m2.mrc", "x.mrc"]})
    write_star(tmp_path / "good.star", {"micrographs": table})
    expected = np.arange(30) // 10 != 1
    for given, loosely in (
        (["Micrographs/m0.mrc", "Micrographs/m2.mrc"], False),
        (str(tmp_path / "good.txt"), False),
        (str(tmp_path / "good.star"), True),
    ):
        rows, by_name = choose.of_micrographs(some, choose.named_micrographs(given))
        assert np.array_equal(rows, expected) and by_name == loosely
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="it names no micrograph"):
        choose.named_micrographs(str(tmp_path / "empty.txt"))
    with pytest.raises(InputError, match="does not name the micrographs"):
        choose.of_micrographs(make_list(rlnMicrographName=None), ["a"])


def test_the_same_images_of_another_list(make_list) -> None:
    some = make_list()
    names = [f"{i + 1}@/moved/to/Extract/m1.mrcs" for i in range(4)]
    moved = make_list(4, "b.star", rlnImageName=names)
    same = make_list(4, "c.star", rlnImageName=[x.replace("/moved/to/", "") for x in names])
    expected = np.isin(np.arange(30), [10, 11, 12, 13])
    assert np.array_equal(choose.in_other(some, same, "image"), expected)
    assert not choose.in_other(some, moved, "image").any()
    assert np.array_equal(choose.in_other(some, moved, "name"), expected)
    with pytest.raises(InputError, match=r"a.star has no uid.*match_by=image"):
        choose.in_other(some, moved, "uid")
    big = np.array([2**63 + 5 + i for i in range(30)], np.uint64)
    some, other = some.with_columns({UID: big}), moved.with_columns({UID: big[7:11].copy()})
    text = some.with_columns({UID: np.array([str(x).encode() for x in big.tolist()])})
    for one in (some, text):  # as it is read from .cs, and from STAR
        assert np.flatnonzero(choose.in_other(one, other, "uid")).tolist() == [7, 8, 9, 10]


def strata(some) -> np.ndarray:
    return some.numbers("rlnRandomSubset") * 10 + some.numbers("rlnOpticsGroup")


def test_random_ones_are_spread_over_half_sets_and_groups(make_list) -> None:
    """Every stratum within one of its share, and the total exact."""
    half = (np.arange(100) >= 60).astype(int) + 1
    some = make_list(100, optics={"rlnOpticsGroup": ["1", "2", "5"]}, rlnRandomSubset=half)
    rows = choose.random_rows(some, 37, seed=4)
    assert rows.sum() == 37
    values, size = np.unique(strata(some), return_counts=True)
    taken = np.array([(strata(some)[rows] == value).sum() for value in values])
    assert len(values) == 6 and (np.abs(taken - 0.37 * size) < 1).all()
    assert np.array_equal(rows, choose.random_rows(some, 37, seed=4))
    assert not np.array_equal(rows, choose.random_rows(some, 37, seed=5))
    assert choose.random_rows(some, 1000, seed=4).all()


def test_rows_of_an_image_stay_together(make_list) -> None:
    some = make_list(40).taken(np.repeat(np.arange(40), 3))
    rows = choose.random_rows(some, 11, seed=0).reshape(40, 3)
    assert rows.sum() == 33 and (rows == rows[:, :1]).all()
    part = choose.parts_of(some, 3, seed=0).reshape(40, 3)
    assert (part == part[:, :1]).all()


def test_parts_are_equal(make_list) -> None:
    some = make_list(101, optics={"rlnOpticsGroup": ["1", "2", "5"]})
    part = choose.parts_of(some, 4, seed=1)
    assert np.ptp(np.bincount(part)) <= 1 and len(np.bincount(part)) == 4
    for value in np.unique(strata(some)):
        assert np.ptp(np.bincount(part[strata(some) == value], minlength=4)) <= 1
