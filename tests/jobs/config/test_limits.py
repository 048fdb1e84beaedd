"""Every number of every job has limits, and whatever is given ends in settings or in one sentence."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cryotorch.errors import InputError
from cryotorch.jobs.config import catalog, limits
from cryotorch.jobs.config.limits import LIMITS
from cryotorch.jobs.config.parse import build, in_angstrom, spelled


def numeric(cls: type, prefix: str = "") -> list[str]:
    """The dotted names of parameters that may be numbers or lists of numbers."""
    names = []
    for field, hint in get_type_hints(cls, include_extras=True).items():
        name = prefix + spelled(field)
        if dataclasses.is_dataclass(hint):
            names += numeric(hint, name + ".")
        elif _counts(hint):
            names.append(name)
    return names


def _counts(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return False
    return hint in (int, float) or any(_counts(part) for part in get_args(hint))


ALL = {job: numeric(catalog.settings_class(job)) for job in catalog.job_names()}
EVERY = [(job, p.name) for job in ALL for p in catalog.parameters(job)]
DEFAULTS = {
    job: {spelled(k): v for k, v in dataclasses.asdict(catalog.make_settings(job)).items()}
    for job in ALL
}
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from(
        [0, -1, 1, 2, 7, 8, 9, 1e-30, 1e-9, 1e9, 1e20, 1e30, 1e300, 2**31, 2**63, 2**64]
    ),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, True, False, None]),
)
WORDS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["auto", "null", "", "nan", "1e400", "6px", "-6px", "1e300px", "0px", "14A"]),
    st.sampled_from(
        ["0.35rad", "1e9nm", "x" * 5000, "\0", "\udcff", "１４", "[1,2]", "{a: 1}", "../.."]
    ),
)
ANYTHING = st.recursive(
    st.one_of(NUMBERS, WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=8,
)


def test_every_number_of_every_job_is_in_the_table() -> None:
    names = {name for found in ALL.values() for name in found}
    assert names == set(LIMITS)


@pytest.mark.parametrize("name", LIMITS)
def test_the_limits_themselves_are_allowed_and_what_is_beyond_is_not(name: str) -> None:
    low, high = LIMITS[name].low, LIMITS[name].high
    for value in (low, high, [low, high]):
        limits.check(name, value, "")
    assert low < high
    for value in (low - abs(low) * 1e-3 - 1e-3, 2 * high + 1, -math.inf, math.inf, [[1e300]]):
        with pytest.raises(InputError, match=f"{name}=x cannot be used: it must"):
            limits.check(name, value, "x")


@pytest.mark.parametrize(
    ("job", "name", "value", "requirement"),
    [
        ("homo_refine", "seed", 1e20, "it must be from 0 to 9223372036854775807"),
        ("homo_refine", "minibatch_size", 1e30, "it must be from 1 to 1000000"),
        ("homo_refine", "search__grid_step", 1e-9, "it must be from 0.1 to 90 degrees"),
        ("homo_refine", "search__candidates", 1e9, "it must be from 1 to 100000"),
        ("homo_refine", "mask_far", "1e300px", "it must be from 0 to 1000000 pixels"),
        ("homo_refine", "trainer__devices", [0, -5], "it must be from -1 to 4096"),
        ("simulate", "beam_tilt", [1e9, 0], "it must be from -1000 to 1000 mrad"),
        ("volume_tools", "shift", ["1px", "1e9A", 0], "it must be from -1000000 to 1000000 Å"),
    ],
)
def test_what_once_was_a_traceback(job: str, name: str, value: object, requirement: str) -> None:
    with pytest.raises(InputError, match=requirement):
        catalog.make_settings(job, **{name: value})


def test_lengths_in_pixels_meet_their_limits_with_the_pixel_size() -> None:
    given = catalog.make_settings("homo_refine", mask_start_resolution="0.5px")
    assert in_angstrom(given, 2.0).mask_start_resolution == 1.0
    with pytest.raises(InputError, match=r"mask_start_resolution=0.5px .* from 0.1 to 100000 Å"):
        in_angstrom(given, 0.01)


@settings(max_examples=600, deadline=None)
@given(which=st.sampled_from(EVERY), value=ANYTHING)
@example(which=("homo_refine", "seed"), value=1e20)
@example(which=("local_refine", "fulcrum"), value=["1e400A", "2", "3"])
@example(which=("sharpen", "bfactor"), value=[True])
@example(which=("volume_tools", "segment.labels"), value=[[1]])
def test_any_value_of_any_parameter_makes_settings_or_one_sentence(which, value) -> None:
    job, name = which
    made = _made(job, name, value)
    if made is not None:
        _made(job, name, value, pixel_size=1.2)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(which=st.sampled_from(EVERY), value=ANYTHING, size=st.floats(1e-3, 1e3))
def test_any_value_of_any_parameter_for_long(which, value, size) -> None:
    _made(*which, value, pixel_size=size)


def _made(job: str, name: str, value: object, pixel_size: float | None = None) -> object:
    try:
        values = copy.deepcopy(DEFAULTS[job])
        *path, last = name.split(".")
        inner = values
        for key in path:
            inner = inner[key]
        inner[last] = value
        made = build(catalog.settings_class(job), values, job)
        return made if pixel_size is None else in_angstrom(made, pixel_size)
    except InputError as error:
        assert "\n" not in " ".join(str(error).split()) and len(str(error)) > 10
        return None
