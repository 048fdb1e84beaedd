"""How long a refinement will still take: put into the result of every iteration; a dry run tells it from some batches and one M-step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace

import lightning as L
from lightning.pytorch.callbacks import Callback

from cryotorch.errors import DryRun
from cryotorch.findings import Value, remark
from cryotorch.ops.compiled import LISTENER
from cryotorch.particles import Batch
from cryotorch.refinement.em.forecast import Measured, measured, seconds_of_all, time_left
from cryotorch.refinement.em.module import Refinement
from cryotorch.refinement.pose_search.stable_poses import stable_poses
from cryotorch.report.sentences import line
from cryotorch.results import TimeLeft

log = logging.getLogger("cryotorch")
LOOKED_AT = 3  # batches before the first guess; the first of them is left out


@dataclass
class ForecastEnd(Callback):
    """Comes before the reports, which show ``result.time_left``.

    Args:
        now: seconds by a clock on the wall.
        ends: of a dry run, which ends when it is known how long a run would take.
    """

    now: Callable[[], float] = time.perf_counter
    ends: bool = False
    batches: list[int] = field(default_factory=list)  # particles of this iteration's
    first: tuple[dict[str, float], int] = ({}, 0)  # clock and particles after the first batch
    at: tuple[float, bool, float] = (0.0, True, 1.0)  # limit, no poses, part that is searched
    compiled: float = 0.0  # seconds of the loops so far
    since: float = 0.0  # the end of the iteration before
    guessed: bool = False

    def on_train_start(self, trainer: L.Trainer, pl_module: Refinement) -> None:
        """The first iteration begins."""
        self.since = self.now()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Refinement) -> None:
        """Another iteration."""
        state = pl_module.state
        self.batches, self.first = [], ({}, 0)
        self.at = state.max_shell, not bool(state.has_pose.any()), searched(pl_module)
        self.compiled = LISTENER.seconds

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Refinement, outputs, batch: Batch, batch_idx: int
    ) -> None:
        """Only in this process's first iteration, as devices are waited for to read the clock."""
        expectation = pl_module.expectation
        if self.guessed or expectation is None:
            return
        self.batches.append(len(batch.index))
        if len(self.batches) == 1:
            self.first = dict(expectation.clock.seconds), len(batch.index)
            self.compiled = LISTENER.seconds
        elif len(self.batches) == LOOKED_AT and sum(self.batches):  # a rank may have none
            self.guessed = True
            seconds = dict(expectation.clock.seconds)
            seconds["templates"] = 2 * seconds.get("templates", 0.0)  # of the other half set too
            self._guess(
                trainer, pl_module, measured(seconds, sum(self.batches), self.at, self.first)
            )

    def _guess(self, trainer: L.Trainer, pl_module: Refinement, cost: Measured) -> None:
        state, settings = pl_module.state, pl_module.settings
        particles = len(state.particles) / trainer.world_size
        limit = settings.box * settings.pixel_size / self.at[0]
        images = seconds_of_all(cost, particles * state.share)
        known = {"limit": limit, "images": images}
        if self.ends:
            past, solved = deepcopy(state.convergence), self._solved(pl_module)
            whole = replace(cost, seconds={**cost.seconds, **solved})
            left = time_left(past, particles, self.at[2], whole, settings)
            log.info(line(remark("time_foreseen", **known, **_numbers(left), solved=bool(solved))))
            raise DryRun
        if trainer.is_global_zero:
            log.info(line(remark("time_guessed", **known)))

    def _solved(self, pl_module: Refinement) -> dict[str, float]:
        """Seconds of an M-step, of the images so far; {} where these are too few for one."""
        once = LISTENER.seconds
        log.disabled = True  # what it has to say is of few images
        try:
            pl_module._maximize()
        except Exception:  # of a trial; the run itself says what is wrong
            return {}
        finally:
            log.disabled = False
        assert pl_module.result is not None
        seconds = {n: s for n, s in pl_module.result.seconds.items() if n in ("solve", "fsc")}
        seconds["solve"] = max(0.0, seconds.get("solve", 0.0) - (LISTENER.seconds - once))
        return seconds

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Refinement) -> None:
        """All ranks, which have the same particles each."""
        result, state, now = pl_module.result, pl_module.state, self.now()
        wall, self.since, self.guessed = now - self.since, now, True
        if result is None or result.final:
            if self.ends:
                raise DryRun
            return
        phases = dict(result.seconds)
        phases["rest"] = max(0.0, wall - sum(phases.values()))
        once = LISTENER.seconds - self.compiled  # in the M-step
        phases["solve"] = max(0.0, phases["solve"] - once)
        took = result.history[-1]["particles"]
        share = self.first[0], self.first[1] * trainer.world_size
        cost = measured(phases, took, self.at, share)
        coming = len(state.particles), searched(pl_module)
        left = time_left(state.convergence, *coming, cost, pl_module.settings)
        messages = [*result.messages, remark("time_left", **_numbers(left))]
        pl_module.result = replace(result, time_left=left, messages=messages)
        if self.ends:  # there were too few batches for a guess
            log.info("After an iteration: %s", line(messages[-1]))
            raise DryRun


def searched(module: Refinement) -> float:
    """The part of the particles that the coarse search of the coming iteration takes."""
    if module.settings.local is not None:
        return 1.0
    resting = stable_poses(module.state.stable_iterations, module.state.iteration)
    return 1 - float(resting.float().mean())


def _numbers(left: TimeLeft) -> dict[str, Value]:
    (least, most), (fewest, many) = left.seconds, left.iterations
    return {"least": least, "most": most, "fewest": fewest, "many": many, "ctf": left.ctf}
