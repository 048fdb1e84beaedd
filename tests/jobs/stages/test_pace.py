"""The pace of counted work, on a pretended clock."""

from __future__ import annotations

import logging

import pytest

from cryotorch.errors import DryRun
from cryotorch.jobs.stages.pace import Pace


class Work:
    """Pieces of ten, of which the first takes 60 s as loops are compiled, and all others 2 s."""

    def __init__(self, whole: float, begins: float = 0.0, ends: bool = False) -> None:
        self.clock, self.heard = 0.0, list[float]()
        self.pace = Pace(self.heard.append, whole, begins, ends, lambda: self.clock)

    def do(self, pieces: int) -> None:
        for _ in range(pieces):
            self.clock += 2.0 if self.heard else 60.0
            self.pace(10.0)


def test_what_is_left_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """After four of a hundred pieces, 96 times 2 s are left: 134 to 250 s."""
    work = Work(1000.0)
    with caplog.at_level(logging.INFO, "cryotorch"):
        work.do(30)
    (said,) = caplog.messages
    assert said.startswith("The images take 2.2 min to 4.2 min from here") and len(work.heard) == 30


def test_little_work_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cryotorch"):
        Work(60.0).do(6)
    assert not caplog.messages


def test_a_dry_run_ends_once_the_pace_is_known(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(1000.0, begins=100.0, ends=True)
    with caplog.at_level(logging.INFO, "cryotorch"), pytest.raises(DryRun):
        work.do(100)
    assert len(work.heard) == 13 and len(caplog.messages) == 1  # ten, and 6 s
