"""When to do what: a pure function of the history of an EM run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SUBSET, GROWTH = (
    5000,
    8,
)  # images of a half set in the first iteration of a large set; and how fast they become more
NEARLY_ALL = 0.3  # a larger share is not worth an iteration of its own


@dataclass(frozen=True)
class ScheduleSettings:
    """Limits are in Fourier pixels (shells).

    Attributes:
        first_limit: from the initial resolution; most: highest limit ever used for alignment.
        max_iterations: EM iterations at most; extra_final_passes: iterations after convergence.
        patience: iterations that together gain less than ``least_gain`` shells mean convergence, if the poses move by less than
            ``resting`` of their standard errors; one is enough where they have less than ``still`` before them, and ``restless`` times as
            many are needed where they do not rest, or where the curve lies ``fallen`` shells below its best: from a coarse start
            it falls for a while, as the first poses agree on what is not there. Gain is measured by the sum of the squared FSC over all shells under one and the same soft
            sphere: unlike the crossing it still moves when the curve has reached Nyquist, and unlike the corrected curve it does
            not move with a mask.
        growth: factor on the limit per iteration at most, while the median turn of the poses is more than ``resolved`` times
            1 / last limit, the angle that it tells apart; first_growth: while no turn is known.
        ctf_rounds: how often the CTF is refined after convergence, each time followed by iterations until the next one.
        images: in the smaller half set, where early iterations may take a random share of them; None = all take all.
    """

    first_limit: float
    most: float
    max_iterations: int = 30
    extra_final_passes: int = 0
    patience: int = 2
    least_gain: float = 0.05
    still: float = 0.3
    resting: float = 0.25
    restless: int = 8
    growth: float = 1.25
    first_growth: float = 2.0
    resolved: float = 1.0
    fallen: float = 0.25
    ctf_rounds: int = 0
    images: int | None = None


@dataclass(frozen=True)
class Next:
    """The coming iteration aligns a ``share`` of each half set up to ``limit``, and may refine the CTF; ``note`` says why if it is news."""

    limit: float
    note: str = ""
    refine_ctf: bool = False
    share: float = 1.0


@dataclass(frozen=True)
class Stop:
    """The run is over, and why."""

    reason: str


@dataclass
class Course:
    """What an EM run has come to: one number per iteration so far.

    Attributes:
        crossings: the gold-standard crossing (FSC 0.143), shells; areas: sum of the squared FSC (with its sign) over the shells, in a soft sphere.
        limits: shells that were aligned; turns: median change of the rotations, radians, infinite where there was none before.
        motions: median change of the poses in units of their predicted standard errors, infinite where there was none before.
        shares: of each half set's particles that it took.
        ctf_after: how many iterations were done each time before one that refined the CTF.
    """

    crossings: list[float] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)
    motions: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    ctf_after: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.crossings)

    def check(self) -> None:
        """Raises ValueError or TypeError where these are no numbers, one of each for every iteration."""
        counts = {len(values) for name, values in vars(self).items() if name != "ctf_after"}
        numbers = [x for values in vars(self).values() for x in values]
        if len(counts) > 1 or not all(isinstance(x, int | float) for x in numbers):
            raise ValueError
        if not all(0 <= x <= len(self) for x in self.ctf_after):
            raise ValueError
        known = [*self.crossings, *self.areas, *self.limits, *self.shares]
        if not all(map(math.isfinite, known)):
            raise ValueError


def advance(course: Course, settings: ScheduleSettings) -> Next | Stop:
    """Decide what comes next.

    The next limit is the crossing plus one shell, plus two in the first three iterations, when poses still improve
    faster than the curve shows. While poses still turn by more than the last limit tells apart, or nobody knows, it grows slowly:
    half maps of poses that are far off agree in fine shells on what is not there, and such poses follow it.
    """
    done, first = len(course), min(settings.first_limit, settings.most)
    if done >= settings.max_iterations:
        return Stop(
            f"max_iterations={settings.max_iterations} reached; raise it if the resolution still improves"
        )
    ahead = 2 if done < 3 else 1
    limit = max(first, min(course.crossings[-1] + ahead, settings.most)) if done else first
    if done and not course.turns[-1] * course.limits[-1] < settings.resolved:
        growth = settings.growth if math.isfinite(course.turns[-1]) else settings.first_growth
        limit = min(limit, max(first, growth * course.limits[-1]))
    share = share_of(done, settings)
    if share < 1 or not done or course.shares[-1] < 1:
        return Next(limit, share=share)
    converged = converged_at(course, settings)
    if converged is None:
        return Next(limit)
    if len(course.ctf_after) < settings.ctf_rounds:
        return Next(limit, "converged; the next iteration refines the CTF", refine_ctf=True)
    if done >= converged + settings.extra_final_passes:
        return Stop(f"the FSC no longer improves by {settings.least_gain} shell")
    if converged == done:
        return Next(limit, f"converged; {settings.extra_final_passes} extra final passes follow")
    return Next(limit)


def share_of(iteration: int, settings: ScheduleSettings) -> float:
    """The share of each half set for an iteration, counted from 0: early maps are too coarse to need all particles.

    The last iterations that ``max_iterations`` allows take all of them.
    """
    if settings.images is None or iteration + settings.patience + 1 >= settings.max_iterations:
        return 1.0
    share = SUBSET * GROWTH**iteration / settings.images
    return share if share < NEARLY_ALL else 1.0


def converged_at(course: Course, settings: ScheduleSettings) -> int | None:
    """Number of iterations after which the run had converged, or None.

    It counts anew after an iteration that refined the CTF, and from the first that took all particles.
    """
    early = sum(share < 1 for share in course.shares)
    start = max(early, *course.ctf_after[-1:], 0)
    for done in range(start, len(course)):
        lag = settings.patience
        if _ahead(course.motions[: done + 1]) < settings.still:
            lag = 1
        else:
            fallen = max(course.areas[start : done + 1]) - course.areas[done] > settings.fallen
            if fallen or course.motions[done] >= settings.resting:
                lag *= settings.restless
        before = course.areas[max(start, done - lag) : done]
        lowest = min(before, default=math.inf)  # no patience, no gain
        if len(before) == lag and course.areas[done] < lowest + settings.least_gain:
            return done + 1
    return None


def _ahead(motions: list[float]) -> float:
    """How far the poses will still move in all, if each iteration shortens their way as the last one did: a geometric series."""
    before, last = motions[-2:] if len(motions) > 1 else (math.inf, math.inf)
    if not last < before or math.isinf(before):
        return math.inf
    rate = last / before
    return last * rate / (1 - rate)
