"""Which images are named, and how."""

from __future__ import annotations

from cryotorch.jobs.inputs.damage import damaged_images, finding
from cryotorch.report.sentences import line


class Images:
    def __init__(self) -> None:
        self.faults = {3: "blank", 7: "1 outlier pixel replaced"}

    @staticmethod
    def name(row: int) -> str:
        return f"{row + 1}@s.mrcs"


def test_reasons_are_joined_by_image_and_come_in_order() -> None:
    found = damaged_images(Images(), {1: "loud", 3: "blank", 7: "loud"})
    assert found == {
        "2@s.mrcs": "loud",
        "4@s.mrcs": "blank",
        "8@s.mrcs": "1 outlier pixel replaced; loud",
    }
    assert list(found) == ["2@s.mrcs", "4@s.mrcs", "8@s.mrcs"]


def test_the_first_few_are_named() -> None:
    one = finding({"2@s.mrcs": "loud"}, 400)
    assert line(one).startswith("WARNING: 1 of 400 images looks damaged: 2@s.mrcs (loud).")
    many = finding({f"{i}@s.mrcs": "blank" for i in range(1, 9)}, 400)
    named = ", ".join(f"{i}@s.mrcs (blank)" for i in (1, 2, 3))
    assert many.values == dict(damaged=8, images=400, examples=named, more=True)
