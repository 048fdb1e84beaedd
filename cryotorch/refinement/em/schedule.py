"""When to do what: a pure function of the history of an EM run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cryotorch.findings import Finding, remark
from cryotorch.refinement.settings import ScheduleSettings
from cryotorch.refinement.state import ConvergenceHistory

# Images of a half set in the first iteration of a large set; and how fast they become more.
FIRST_SUBSET, SUBSET_GROWTH = 5000, 8
NEARLY_ALL = 0.3  # a larger share is not worth an iteration of its own


@dataclass(frozen=True)
class Continue:
    """The coming iteration aligns a ``share`` of each half set up to ``max_shell``, and may refine the CTF; ``note``: why, if it is news."""

    max_shell: float
    note: Finding | None = None
    refine_ctf: bool = False
    share: float = 1.0


@dataclass(frozen=True)
class Stop:
    """The run is over, and why."""

    reason: Finding


def advance(convergence: ConvergenceHistory, settings: ScheduleSettings) -> Continue | Stop:
    """Decide what comes next.

    The next ``max_shell`` is the crossing plus one shell, plus two in the first three iterations, when poses still improve
    faster than the curve shows. While poses still turn by more than the last one tells apart, or nobody knows, it grows slowly:
    half maps of poses that are far off agree in fine shells on what is not there, and such poses follow it.
    """
    done, highest = len(convergence), settings.highest_limit
    first = min(settings.first_limit, highest)
    if done >= settings.max_iterations:
        return Stop(remark("most_iterations", iterations=settings.max_iterations))
    ahead = 2 if done < 3 else 1
    max_shell = max(first, min(convergence.crossings[-1] + ahead, highest)) if done else first
    if done and not convergence.turns[-1] * convergence.max_shells[-1] < settings.resolved_turn:
        growth = settings.growth if math.isfinite(convergence.turns[-1]) else settings.first_growth
        max_shell = min(max_shell, max(first, growth * convergence.max_shells[-1]))
    share = share_of(done, settings)
    if share < 1 or not done or convergence.shares[-1] < 1:
        return Continue(max_shell, share=share)
    converged = converged_at(convergence, settings)
    if converged is None:
        return Continue(max_shell)
    if len(convergence.ctf_after) < settings.ctf_rounds:
        return Continue(max_shell, remark("next_refines_ctf"), refine_ctf=True)
    if done >= converged + settings.extra_final_passes:
        return Stop(remark("no_gain", gain=settings.least_gain))
    if converged == done:
        passes = settings.extra_final_passes
        return Continue(max_shell, remark("final_passes", passes=passes))
    return Continue(max_shell)


def share_of(iteration: int, settings: ScheduleSettings) -> float:
    """The share of each half set for an iteration, counted from 0: early maps are too coarse to need all particles.

    The last iterations that ``max_iterations`` allows take all of them.
    """
    if settings.images is None or iteration + settings.patience + 1 >= settings.max_iterations:
        return 1.0
    share = FIRST_SUBSET * SUBSET_GROWTH**iteration / settings.images
    return share if share < NEARLY_ALL else 1.0


def converged_at(convergence: ConvergenceHistory, settings: ScheduleSettings) -> int | None:
    """Number of iterations after which the run had converged, or None.

    It counts anew after an iteration that refined the CTF, and from the first that took all particles.
    """
    early = sum(share < 1 for share in convergence.shares)
    start = max(early, *convergence.ctf_after[-1:], 0)
    for done in range(start, len(convergence)):
        lag = settings.patience
        if _ahead(convergence.motions[: done + 1]) < settings.max_remaining_motion:
            lag = 1
        else:
            drop = max(convergence.areas[start : done + 1]) - convergence.areas[done]
            if drop > settings.max_area_drop or convergence.motions[done] >= settings.max_motion:
                lag *= settings.patience_factor
        before = convergence.areas[max(start, done - lag) : done]
        lowest = min(before, default=math.inf)  # no patience, no gain
        if len(before) == lag and convergence.areas[done] < lowest + settings.least_gain:
            return done + 1
    return None


def _ahead(motions: list[float]) -> float:
    """How far the poses will still move in all, if each iteration shortens their way as the last one did: a geometric series."""
    before, last = motions[-2:] if len(motions) > 1 else (math.inf, math.inf)
    if not last < before or math.isinf(before):
        return math.inf
    rate = last / before
    return last * rate / (1 - rate)
