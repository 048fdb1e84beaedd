"""What a first map asks of its refinement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cryotorch.findings import remark
from cryotorch.jobs.initial_map import begin
from cryotorch.jobs.initial_map.begin import USUAL, first_resolution


def test_a_ball_asks_for_the_detail_that_it_was_found_with() -> None:
    assert begin.asked([remark("either_hand"), remark("axes_of_ball", initial=16.27)]) == 16.0
    assert begin.asked([remark("either_hand")]) is None


@pytest.mark.parametrize(
    ("written", "used"),
    [({begin.ENTRY: 16.0}, 16.0), ({begin.ENTRY: None}, USUAL), ({}, USUAL), ([], USUAL)],
)
@pytest.mark.parametrize("given", ["auto", 25.0])
def test_a_refinement_begins_where_the_run_asks_unless_told(
    written: object, used: float, given: float | str, tmp_path: Path
) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(written))
    assert first_resolution(given, str(tmp_path)) == (used if given == "auto" else given)


@pytest.mark.parametrize("text", ["no json", '{"refine_from": "x"}', '{"refine_from": NaN}'])
def test_what_cannot_be_read_asks_for_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(text)
    assert begin.asked_for(str(tmp_path)) is None
    assert begin.asked_for(str(tmp_path / "map.mrc")) is None and begin.asked_for(None) is None
