"""Sentences on what a run starts from."""

from __future__ import annotations

from cryotorch.findings import Finding
from cryotorch.report.sentences import say


def test_one_image_and_many() -> None:
    found = Finding("images_damaged", damaged=1, images=40, examples="image 7 is blank", more=False)
    assert say(found).startswith("1 of 40 images looks damaged: image 7 is blank. ")
    many = found.plus(damaged=9, more=True)
    assert say(many).startswith("9 of 40 images look damaged: image 7 is blank and others. ")


def test_the_symmetry_that_a_map_shows_is_offered() -> None:
    found = Finding("map_not_symmetric", symmetry="D4", correlation=0.612, shows="")
    assert "correlates only 0.61 with its rotated copy" in say(found)
    assert "give symmetry=" not in say(found)
    assert "it shows C4, give symmetry=C4" in say(found.plus(shows="C4"))


def test_maps_that_are_compared_with_and_maps_to_start_from() -> None:
    halves = Finding("from_half_maps", first="a.mrc", second="b.mrc", compared=True)
    assert say(halves) == "each half set is compared with its own half map, a.mrc and b.mrc"
    assert "starts from its own half map" in say(halves.plus(compared=False))
    assert (
        say(Finding("from_map", file="m.mrc", compared=False))
        == "both half sets start from the map m.mrc"
    )
