"""The lists that are written: parts, halves, what is told of them."""

from __future__ import annotations

import numpy as np
import pytest

from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.curation.results import halves, halves_in_words, parts, write
from cryotorch.jobs.curation.steps import Course, curated


def course_of(particles) -> Course:
    return Course(particles, particles, np.arange(len(particles)), lambda step: None)


def test_parts_hold_every_particle_once(make_list) -> None:
    some = make_list(31, optics={"rlnOpticsGroup": ["1", "2"]})
    made = parts(course_of(some), make_settings("particles", split=4))
    assert list(made) == [f"particles_{i}" for i in (1, 2, 3, 4)]
    assert sorted(map(len, made.values())) == [7, 8, 8, 8]
    codes_of = np.concatenate([part.image_code() for part in made.values()])
    assert np.array_equal(np.sort(codes_of), np.sort(some.image_code()))
    assert list(parts(course_of(some), make_settings("particles"))) == ["particles"]
    few = parts(course_of(make_list(2)), make_settings("particles", split=5))
    assert sum(map(len, few.values())) == 2 and all(len(part) for part in few.values())


def test_half_sets_are_counted(make_list) -> None:
    some = make_list(9)
    assert halves(some) == [5, 4] and halves_in_words(some) == "half sets: 5 and 4"
    none = some.without(["rlnRandomSubset"])
    assert halves(none) == [0, 0] and halves_in_words(none) == "half sets: none"


@pytest.mark.drawn
@pytest.mark.parametrize(("kept", "empty"), [("== 1", 2), ("== 2", 1), ("> 0", None)])
def test_a_half_set_that_is_gone_is_told(make_list, tmp_path, kept: str, empty: int) -> None:
    make_list(9)
    given = dict(particles=str(tmp_path / "a.star"), out=str(tmp_path / "out"))
    settings = make_settings("particles", where=f"rlnRandomSubset {kept}", **given)
    course = curated(settings, lambda step: None)
    assert write(tmp_path, course, settings) == ["particles.star"]
    assert (tmp_path / "particles.png").stat().st_size > 1000
    told = [found["empty"] for found in course.told if found.code == "half_set_empty"]
    assert told == ([] if empty is None else [empty])
