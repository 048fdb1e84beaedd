"""A reference is averaged over its group, turned onto its axes, or told not to lie on them."""

from __future__ import annotations

import pytest

from cryotorch.findings import Finding, codes
from cryotorch.jobs.inputs.reference_axes import ON_AXES, onto_axes
from cryotorch.ops.fourier.filters import low_pass, radial_amplitude
from cryotorch.ops.geometry.symmetry import point_group, rotate_volume, symmetry_correlation
from cryotorch.ops.geometry.symmetry_frame import turn
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.fsc import shell_correlation


def test_an_initial_map_about_other_axes_is_told_or_turned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """D7 at 30 Å turned by 90 degrees about z passes for D7 by its correlation, 0.93, but not in its finer shells."""
    group, quarter = point_group("D7"), turn((0, 0, 1), 90)
    right = low_pass(phantom(32, 6.0, group), 6.0, 30)
    turned = rotate_volume(right, quarter)
    assert float(symmetry_correlation(turned, group).min()) > ON_AXES
    caplog.set_level("INFO", logger="cryotorch")
    said: list[Finding] = []

    def agreement(frame: str) -> float:
        volume, told = onto_axes(turned, group, "D7", frame)
        said.extend(told)
        return float(shell_correlation(volume, right)[2:6].min())

    assert agreement("trust") < 0.9 and not said
    assert agreement("check") < 0.9
    assert codes(said) == ["map_about_other_axes"]
    assert said[0]["turn"] == "a turn by 90° about z" and said[0]["turned"] > said[0]["as_is"]
    made, told = onto_axes(turned, group, "D7", "auto")
    assert told == []
    assert "brought onto the axes of D7 by a turn by 90° about z" in caplog.text
    other = rotate_volume(right, turn((0, 0, 1), 180))  # 90 + 90: one of the frames with these axes
    assert float(shell_correlation(made, other)[1:6].min()) > 0.9
    assert onto_axes(right, group, "D7", "check")[1] == []
    (told,) = onto_axes(right, point_group("O"), "O", "check")[1]
    # seven-fold, which is no part of O
    assert told["symmetry"] == "O" and told["shows"] == "D7"


def test_an_octahedral_map_given_as_icosahedral_is_told_to_be_octahedral() -> None:
    """At 45 Å it is nearly a ball, and correlates above 0.9 with all its copies."""
    ball = low_pass(phantom(32, 6.0, point_group("O")), 6.0, 45)
    assert float(symmetry_correlation(ball, point_group("I")).min()) > ON_AXES
    (told,) = onto_axes(ball, point_group("I"), "I", "check")[1]
    assert told.code == "map_of_other_symmetry"
    assert told["symmetry"] == "I" and told["shows"] == "O"
    assert onto_axes(ball, point_group("D4"), "D4", "check")[1] == []


def test_an_initial_map_of_less_symmetry_is_told_to_have_less() -> None:
    lower = low_pass(phantom(32, 6.0, point_group("C4")), 6.0, 30)
    (told,) = onto_axes(lower, point_group("D4"), "D4", "check")[1]
    assert told["symmetry"] == "D4" and told["shows"] == "C4"


def test_what_is_not_asked_for_is_not_averaged() -> None:
    """Up to the shell that is asked for the map is the one that averaging all of it gives, to a few per cent of each shell."""
    group = point_group("I")
    uneven = phantom(64, 3.0, point_group("C1"))
    whole, part = (onto_axes(uneven, group, "I", "trust", s)[0] for s in (100.0, 15.0))
    assert float(shell_correlation(whole, part)[1:16].min()) > 0.99
    ratio = (radial_amplitude(part) / radial_amplitude(whole))[1:16]
    assert float((ratio - 1).abs().max()) < 0.1
    assert float(radial_amplitude(part)[30:].max()) < 0.05 * float(
        radial_amplitude(whole)[30:].min()
    )
