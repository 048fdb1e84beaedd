"""Curves of a page are those of the result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cryotorch.report.page.curves import fsc, history
from cryotorch.report.page.run_files import RunFiles, read_run
from cryotorch.results import IterationResult


def test_fsc_over_the_edge_of_the_box(run: RunFiles, result: IterationResult) -> None:
    found = fsc(run)
    assert found["edge"] == 32 * 2.5 and found["nyquist"] == 5.0 and found["threshold"] == 0.143
    corrected = found["curves"]["corrected"]
    assert corrected["values"][1:] == pytest.approx(result.curves["corrected"][1:].tolist(), abs=1e-6)  # fmt: skip
    assert len(corrected["values"]) == 17 and corrected["resolution"] == 9.41
    assert corrected["colour"] == "ink" and found["curves"]["tight"]["colour"] == "#E69F00"
    assert found["curves"]["randomised"]["judged"] is False


def test_no_curve_has_a_resolution_where_none_is_claimed(run: RunFiles) -> None:
    found = fsc(replace(run, summary={**run.summary, "resolution": None}))["curves"]
    assert len(found) > 4 and {curve["resolution"] for curve in found.values()} == {None}


def test_an_fsc_for_each_iteration(run: RunFiles, result: IterationResult) -> None:
    found = fsc(run)["iterations"]
    assert list(found) == ["1", "2", "3"]
    expected = (result.curves["tight"] / 3).tolist()
    assert found["1"]["tight"][1:] == pytest.approx(expected[1:], abs=1e-4)


@pytest.mark.parametrize("text", ["", "wave_number\n", "a\tb\n1\n", "a\nx\n", "a\nnan\n"])
def test_no_curves_where_the_table_is_damaged(run: RunFiles, text: str) -> None:
    (run.path / "fsc.txt").write_text(text)
    assert fsc(run) is None


def test_no_curves_of_iterations_without_a_number(run: RunFiles) -> None:
    (run.path / "fsc_iterations.txt").write_text("iteration\tno_mask\nnan\t0.5\n2\t0.3\n")
    assert fsc(run)["iterations"] == {}


def test_columns_of_the_history(run: RunFiles) -> None:
    found = history(run)
    assert found["iteration"] == [1, 2, 3, 4] and found["resolution"] == [30, 15, 10, 7.5]
    assert "particles" not in found
    (run.path / "summary.json").write_text("{}")
    assert history(read_run(run.path)) == {}
