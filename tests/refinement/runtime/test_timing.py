"""Seconds add up by phase, and a block that fails adds none."""

from __future__ import annotations

from itertools import count

import pytest
import torch

from cryotorch.refinement.runtime import timing
from cryotorch.refinement.runtime.timing import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """One whose every look at the time comes a second after the last."""
    ticks = count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    return Clock(torch.device("cpu"))


def test_seconds_add_up_by_phase(clock: Clock) -> None:
    assert clock.seconds == {}
    for name in ("coarse", "polish", "coarse"):
        with clock.phase(name):
            pass
    with clock.waiting("solve"), clock.phase("coarse"):  # 3 ticks outside, 1 inside
        pass
    assert clock.seconds == {"coarse": 3.0, "polish": 1.0, "solve": 3.0}


def test_a_block_that_fails_adds_nothing(clock: Clock) -> None:
    for block in (clock.phase, clock.waiting):
        with pytest.raises(ZeroDivisionError), block("coarse"):
            raise ZeroDivisionError
    assert clock.seconds == {}


def test_phases_have_their_names_in_a_trace() -> None:
    with torch.profiler.profile() as trace, Clock(torch.device("cpu")).phase("polish"):
        torch.ones(2).sum()
    assert "polish" in {event.name for event in trace.events()}
