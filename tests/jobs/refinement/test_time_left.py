"""What a refinement says of its end, on a pretended clock."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from cryotorch.errors import DryRun
from cryotorch.jobs.refinement.time_left import ForecastEnd
from cryotorch.refinement.settings import (
    EMSettings,
    MaskSettings,
    ScheduleSettings,
    SearchSettings,
)
from cryotorch.refinement.state import ConvergenceHistory

N, EACH = 1000, 100
PHASES = {"coarse": 2.0, "polish": 1.0, "solve": 3.0}  # seconds of a batch, and of the M-step


@dataclass(frozen=True)
class Result:
    """What the callback reads and replaces of a result."""

    seconds: dict
    history: list
    messages: list = field(default_factory=list)
    final: bool = False
    time_left: object = None


@dataclass
class Run:
    """A refinement whose batches and M-steps take the same pretended seconds at every limit; the first batch takes 20 s more."""

    tell: ForecastEnd
    clock: list[float]
    plan: ScheduleSettings

    def __post_init__(self) -> None:
        state = SimpleNamespace(
            particles=range(N),
            convergence=ConvergenceHistory(),
            max_shell=31.0,
            share=1.0,
            has_pose=torch.zeros(N, dtype=torch.bool),
            stable_iterations=torch.zeros(N, dtype=torch.int64),
            iteration=0,
        )
        parts = SearchSettings(coarse_limit=31.0, shift_extent=2.0), self.plan, MaskSettings()
        settings = EMSettings(64, 3.0, torch.eye(3)[None], *parts, 0.0, (32.0, 32.0))
        self.module = SimpleNamespace(state=state, settings=settings, result=None, expectation=None)
        self.trainer = SimpleNamespace(world_size=1, is_global_zero=True)
        self.tell.on_train_start(self.trainer, self.module)

    def iterate(self) -> Result:
        state, module = self.module.state, self.module
        spent = dict.fromkeys(PHASES, 0.0)
        module.expectation = SimpleNamespace(clock=SimpleNamespace(seconds=spent))
        self.tell.on_train_epoch_start(self.trainer, module)
        for number in range(N // EACH):
            for phase in ("coarse", "polish"):
                spent[phase] += PHASES[phase] + (10 if number + state.iteration == 0 else 0)
            self.clock[0] += 23.0 if number + state.iteration == 0 else 3.0
            if number == N // EACH - 1:
                module.expectation, spent["solve"] = None, PHASES["solve"]
            batch = SimpleNamespace(index=torch.zeros(EACH))
            self.tell.on_train_batch_end(self.trainer, module, None, batch, number)
        self.clock[0] += 3.0 + 2.0  # the M-step, and files
        state.iteration += 1
        past = state.convergence
        for name, value in {"motions": 0.01, "shares": 1.0, "turns": 0.01}.items():
            getattr(past, name).append(value)
        for name in ("crossings", "areas", "max_shells"):
            getattr(past, name).append(31.0)
        state.has_pose[:] = True
        final = state.iteration == self.plan.max_iterations
        module.result = Result(spent, [{"particles": float(N)}], final=final)
        self.tell.on_train_epoch_end(self.trainer, module)
        return module.result


@pytest.fixture
def run() -> Run:
    clock = [0.0]
    plan = ScheduleSettings(31.0, 31.0, max_iterations=3, least_gain=-99.0)  # all three of them
    return Run(ForecastEnd(lambda: clock[0]), clock, plan)


def test_what_is_left_is_right_where_iterations_cost_the_same(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "cryotorch"):
        first = run.iterate()
    (guess,) = caplog.messages  # one, in the first iteration, from its second and third batch
    assert guess.startswith("About 30 s for the images of this iteration, at 6.19 Å; ")
    assert "until" not in guess  # M-steps are not known yet
    assert first.time_left.iterations == (2, 2)
    # 2 iterations of 30 s for images, 3 s for the M-step and 2 s besides; the first polish climbed from more candidates
    low, high = first.time_left.seconds
    assert 2 * 25 < 1.15 * low < 2 * 35 and 1 < high / low / 1.15**2 < 2
    assert first.messages[0].code == "time_left" and first.messages[0]["most"] == high
    second = run.iterate()
    assert second.time_left.iterations == (1, 1)
    low, high = second.time_left.seconds
    assert (low * 1.15, high / 1.15) == pytest.approx((35, 35))
    last = run.iterate()
    assert last.time_left is None and not last.messages
    assert len(caplog.messages) == 1


def test_particles_at_rest_are_searched_no_more(run: Run) -> None:
    run.iterate()
    run.module.state.stable_iterations[:] = 1
    second = run.iterate()
    # 5 % of 20 s of search, measured with 5 %, are what it took
    assert second.time_left.seconds[1] / 1.15 == pytest.approx(35, rel=0.15)


def test_a_dry_run_measures_an_m_step_too(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """3 iterations of 30 s for images and 3 s for the M-step, of which one of few images is made, which says nothing and changes nothing that counts."""
    run.tell.ends = True

    def maximize() -> None:
        logging.getLogger("cryotorch").info("of few images")
        run.module.state.convergence.crossings.append(1.0)
        run.module.result = Result({"solve": 2.0, "fsc": 1.0, "coarse": 99.0}, [])

    run.module._maximize = maximize
    with caplog.at_level(logging.INFO, "cryotorch"), pytest.raises(DryRun):
        run.iterate()
    (said,) = caplog.messages
    assert "75 s to 1.9 min for all, as 3 iterations may do" in said and "not counted" not in said
    assert "Other work on this machine" in said


def test_an_m_step_that_fails_is_not_counted(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.tell.ends = True
    run.module._maximize = lambda: 1 / 0
    with caplog.at_level(logging.INFO, "cryotorch"), pytest.raises(DryRun):
        run.iterate()
    assert "; M-steps not counted" in caplog.messages[0]
    assert not logging.getLogger("cryotorch").disabled
