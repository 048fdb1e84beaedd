"""Quantities with units."""

from __future__ import annotations

import math

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config.units import in_pixels, parse_angle, parse_length


@pytest.mark.parametrize(
    ("text", "angstrom"),
    [
        (30, 30.0),
        (12.5, 12.5),
        ("30", 30.0),
        ("14A", 14.0),
        ("14 Å", 14.0),
        ("1.4nm", 14.0),
        (".5a", 0.5),
        ("1e2", 100.0),
        ("-3A", -3.0),
        ("6px", 7.5),
        ("6 pixels", 7.5),
    ],
)
def test_lengths(text: float | str, angstrom: float) -> None:
    assert parse_length(text, pixel_size=1.25) == pytest.approx(angstrom)


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        (20, 20.0),
        ("20deg", 20.0),
        ("20°", 20.0),
        ("0.35rad", math.degrees(0.35)),
        ("10mrad", 0.5729578),
    ],
)
def test_angles(text: float | str, degrees: float) -> None:
    assert parse_angle(text) == pytest.approx(degrees)


@pytest.mark.parametrize(
    "text", ["14furlongs", "abc", "", "A", "1..2A", "14 A A", True, None, "nan", "1e999"]
)
def test_what_is_no_length(text: object) -> None:
    with pytest.raises(InputError, match=r"mask_far=.* (unit|read|finite)"):
        parse_length(text, 1.0, "mask_far")


@pytest.mark.parametrize("text", ["20A", "20px", "half", [1]])
def test_what_is_no_angle(text: object) -> None:
    with pytest.raises(InputError, match=r"grid_step=.* (unit|read)"):
        parse_angle(text, "grid_step")


def test_pixels_need_a_pixel_size() -> None:
    with pytest.raises(InputError, match="mask_far=6px is in pixels, but no pixel size"):
        parse_length("6px", None, "mask_far")
    assert in_pixels("6px") and in_pixels("6 Pixel")
    assert not in_pixels("6A") and not in_pixels(6) and not in_pixels("px")
