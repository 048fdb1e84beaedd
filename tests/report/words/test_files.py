"""Sentences on files: several grids in one."""

from __future__ import annotations

from cryotorch.findings import Finding
from cryotorch.report.sentences import say

GRIDS = dict(file="a.star", least_size=1.0, most_size=1.25, least_box=200, most_box=256)


def test_ranges_of_grids_and_one_number_where_there_is_one() -> None:
    said = say(Finding("several_grids", **GRIDS, size=1.0, box=256))
    assert "a.star" in said and "1 to 1.25" in said and "200 to 256" in said
    same = say(Finding("several_grids", **{**GRIDS, "most_box": 200}, size=1.0, box=200))
    assert "200 to" not in same and "1 to 1.25" in same


def test_joined_grids_with_and_without_boxes() -> None:
    sizes = dict(least_size=1.0, most_size=1.25)
    said = say(Finding("grids_joined", **sizes, least_box=64, most_box=128))
    assert "1 to 1.25 Å per pixel and 64 to 128 pixels" in said
    assert "pixels" not in say(Finding("grids_joined", **sizes, least_box=0, most_box=0))
