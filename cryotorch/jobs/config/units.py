"""Lengths and angles as people write them: ``14A``, ``6px``, ``0.35rad``; a bare number is in the house unit."""

from __future__ import annotations

import math
import re

from cryotorch.errors import InputError

_LENGTHS = {"": 1.0, "a": 1.0, "å": 1.0, "ang": 1.0, "angstrom": 1.0, "nm": 10.0}
_PIXELS = ("px", "pix", "pixel", "pixels")
_ANGLES = {
    "": 1.0,
    "deg": 1.0,
    "degree": 1.0,
    "degrees": 1.0,
    "°": 1.0,
    "rad": math.degrees(1.0),
    "mrad": math.degrees(1e-3),
}
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*")


def parse_length(value: float | str, pixel_size: float | None = None, name: str = "") -> float:
    """A length in Å from a number (Å) or text with the unit A, nm or px.

    ``pixel_size`` (Å) turns pixels into Å. ``name`` is the parameter, for the message. Raises InputError for an
    unknown unit, for text that is no length, and for pixels without a pixel size.
    """
    number, unit = _split(value, name, "a length such as 14, 14A, 1.4nm or 6px")
    if unit in _PIXELS:
        if pixel_size is None:
            raise InputError(
                f"{_said(name, value)} is in pixels, but no pixel size is known here: give it in Å"
            )
        return number * pixel_size
    if unit not in _LENGTHS:
        raise InputError(f"{_said(name, value)} has an unknown unit: use A, nm or px")
    return number * _LENGTHS[unit]


def parse_angle(value: float | str, name: str = "") -> float:
    """An angle in degrees from a number (degrees) or text with the unit deg, rad or mrad.

    Raises InputError for an unknown unit and for text that is no angle.
    """
    number, unit = _split(value, name, "an angle such as 20, 20deg or 0.35rad")
    if unit not in _ANGLES:
        raise InputError(f"{_said(name, value)} has an unknown unit: use deg, rad or mrad")
    return number * _ANGLES[unit]


def in_pixels(value: object) -> bool:
    """Whether this is a length that waits for a pixel size, such as ``6px``."""
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    return found is not None and found[2].lower() in _PIXELS


def _split(value: float | str, name: str, requirement: str) -> tuple[float, str]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number, unit = float(value), ""
    else:
        found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise InputError(f"{_said(name, value)} cannot be read: write {requirement}")
        number, unit = float(found[1]), found[2].lower()
    if not math.isfinite(number):
        raise InputError(f"{_said(name, value)} is not finite: write {requirement}")
    return number, unit


def _said(name: str, value: object) -> str:
    return f"{name}={value}" if name else f"'{value}'"
