"""What an iteration leaves behind: words for a resolution, and poses at the end of their reach."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.findings import Finding
from cryotorch.results import Departures, Guinier, told


def test_a_resolution_in_words() -> None:
    assert told(3.456) == "3.46 Å" and told(10.0) == "10.00 Å"
    assert told(math.nan) == told(math.inf) == "no resolution"


def test_a_fit_moves_with_all_its_tensors() -> None:
    fit = Guinier(
        torch.ones(3), torch.zeros(3), torch.ones(3, dtype=torch.bool), -90.0, 1.5, applied=-80.0
    )
    moved = fit.cpu()
    assert (moved.bfactor, moved.intercept, moved.applied, moved.reason) == (
        -90.0,
        1.5,
        -80.0,
        None,
    )
    assert torch.equal(moved.used, fit.used)


@pytest.mark.parametrize(("at_end", "told_of"), [(0, False), (25, False), (26, True), (100, True)])
def test_a_quarter_of_the_poses_may_stop_at_an_extent(at_end: int, told_of: bool) -> None:
    """From 0.98 of it on."""
    turned = torch.where(torch.arange(100) < at_end, 19.61, 19.59)
    found = Departures(torch.eye(3).repeat(100, 1, 1), turned, torch.zeros(100), 20.0, 5.0)
    warnings = [Finding("poses_at_extent", share=at_end / 100, extent="rotation")]
    got = found.warnings()
    assert len(got) == told_of
    if told_of:
        assert got[0].code == warnings[0].code and got[0]["extent"] == "rotation"
        assert got[0]["share"] == pytest.approx(at_end / 100)


def test_shifts_and_extents_of_nothing() -> None:
    still, far = torch.zeros(4), torch.full((4,), 5.0)
    start = torch.eye(3).repeat(4, 1, 1)
    assert [w["extent"] for w in Departures(start, still, far, 20.0, 5.0).warnings()] == ["shift"]
    assert Departures(start, still, still, 0.0, 0.0).warnings() == []
