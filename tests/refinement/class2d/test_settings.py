"""Angles follow the detail."""

from __future__ import annotations

import math
from dataclasses import replace


def test_angles_follow_limit_and_radius(how) -> None:
    """At the edge of 13 pixels two turns lie 0.7 of a wave of 32 / 9 pixels apart."""
    assert how.angles(9.0) == math.ceil(math.pi * 13 * 9 / (0.7 * 32))
    assert how.angles(0.1) == 4
    assert replace(how, step=math.radians(6)).angles(9.0) == 30
