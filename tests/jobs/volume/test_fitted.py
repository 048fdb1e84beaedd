"""What is said of a fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cryotorch.jobs.volume.fitted import Fitted
from cryotorch.ops.geometry.map_fit import MapFit, RunnerUp

ONE = torch.eye(3).double()
FOUND = MapFit(
    ONE, torch.zeros(3).double(), False, 0.9, 0.3, 0.05, 3, None, 15.0, torch.zeros(3), 60.0
)


def told(mirror: float | None = 0.3, model: bool = False, **changes: object) -> Fitted:
    place = torch.tensor([1.5, -2.0, 30.0]).double()
    return Fitted("a.mrc", "b.mrc", replace(FOUND, **changes), ONE, place, mirror, 7.5, model)


def test_the_command_for_chimerax_has_the_rows_of_the_motion() -> None:
    assert told().chimerax == "view matrix models #1,1,0,0,1.5,0,1,0,-2,0,0,1,30"
    assert told(mirrored=True).chimerax is None


def test_lines_say_what_was_found() -> None:
    said = " ".join(told().lines)
    for part in (
        "0.900",
        "other hand 0.300",
        "3 other turns: such a fit is one of 4",
        "0.5 at 7.5 Å",
    ):
        assert part in said


@pytest.mark.parametrize(
    "fitted, codes",
    [
        (told(), []),
        (told(0.88), ["fit_hand_unclear"]),
        (told(0.88, model=True), []),
        (told(0.97, model=True), ["fit_mirror_better"]),
        (told(runner_up=RunnerUp(0.89, 1.0, 0.5)), ["fit_ambiguous"]),
        (told(runner_up=RunnerUp(0.5, 1.0, 0.5)), []),
    ],
)  # fmt: skip
def test_doubts(fitted: Fitted, codes: list[str]) -> None:
    assert [doubt.code for doubt in fitted.doubts] == codes
