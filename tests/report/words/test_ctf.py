"""Numbers of optics groups with their errors and units, in words."""

from __future__ import annotations

from cryotorch.findings import Finding
from cryotorch.report.sentences import say

BEAM = dict(name="beam tilt x", value=0.51234, sigma=0.0312, unit="mrad")


def test_a_number_has_its_error_and_its_unit() -> None:
    assert say(Finding("number_changed", **BEAM, change=0.2)) == (
        "beam tilt x 0.5123 ± 0.031 mrad, changed by 0.2"
    )
    bare = {**BEAM, "unit": ""}
    assert say(Finding("number_changed", **bare, change=0.2)).startswith(
        "beam tilt x 0.5123 ± 0.031, "
    )


def test_what_is_not_clear_of_its_error_was_left() -> None:
    said = say(Finding("number_unclear", **BEAM, level=3.0))
    assert said.endswith("is not 3 standard errors from zero: left as it was")
    assert "0.5123 ± 0.031 mrad" in said
