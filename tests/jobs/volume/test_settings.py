"""Which steps were asked for, and lists that may be given short."""

from __future__ import annotations

import pytest

from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.volume.settings import listed, rows


def tools(**changes):
    return make_settings("volume_tools", volume="a.mrc", **changes)


def test_steps_that_change_an_outline() -> None:
    assert tools().outlines == []
    assert tools(fill_holes=True, keep_largest=True, dilate="2px", soften=6).outlines == [
        "fill_holes", "keep_largest", "dilate", "soften",
    ]  # fmt: skip
    assert tools(dilate="-0px", soften="0A").outlines == []


def test_further_masks_in_their_order() -> None:
    given = tools(subtract="s.mrc", unite=["u.mrc", "v.mrc"], intersect=["i.mrc"])
    assert given.others == [
        ("unite", "u.mrc"), ("unite", "v.mrc"), ("intersect", "i.mrc"), ("subtract", "s.mrc"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "found"), [(None, []), ("a", ["a"]), (["a", "b"], ["a", "b"]), ([], [])]
)
def test_one_name_is_a_list_of_one(given, found) -> None:
    assert listed(given) == found


@pytest.mark.parametrize(
    ("given", "found"),
    [(None, []), ([], []), ([1, 2, 3], [[1, 2, 3]]), ([[1, 2], [3, 4]], [[1, 2], [3, 4]])],
)
def test_one_row_needs_no_outer_brackets(given, found) -> None:
    assert rows(given) == found
