from __future__ import annotations

import math
from dataclasses import replace

import torch

from cryotorch.report.log import iteration_line
from cryotorch.report.summary import median
from cryotorch.results import IterationResult


def test_line_has_resolution_changes_and_seconds(result: IterationResult) -> None:
    assert iteration_line(result) == (
        "Iteration  4     9.41 Å   (no mask 13.30 Å)   rotation  1.25°   shift  0.40 Å      2.5 s"
    )


def test_no_curve_has_a_resolution_where_none_is_claimed(result: IterationResult) -> None:
    none = replace(result, resolution=math.nan)
    assert not math.isfinite(none.resolution)
    assert " Å)" not in iteration_line(none) and "no resolution   rotation" in iteration_line(none)


def test_line_tells_how_many_particles_a_second(result: IterationResult) -> None:
    counted = [{**result.history[-1], "particles": 1000.0}]
    assert iteration_line(replace(result, history=counted)).endswith("   2.5 s, 400 particles/s")


def test_first_iteration_has_no_change(result: IterationResult) -> None:
    nan = torch.full((400,), torch.nan)
    line = iteration_line(replace(result, rotation_change=nan, shift_change=nan, history=[]))
    assert "rotation new   shift new" in line and line.endswith(" 2.0 s")


def test_median_ignores_what_is_not_finite() -> None:
    assert median(torch.tensor([1.0, torch.nan, 3.0, torch.inf, 2.0])) == 2
    assert median(torch.tensor([torch.nan])) != median(torch.tensor([torch.nan]))
