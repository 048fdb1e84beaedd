"""How long a refinement will still take: what the schedule would order if the run went on so, times what its phases have cost.

The schedule itself is asked for the iterations to come, with the history continued in two ways: poses and curves that settle quickly at
the limit reached, and such that settle slowly while the limit rises. Seconds of a phase are those measured, times the ratio of its
work there and here: products of the coarse search by band limit, grid step and shifts; points of polish and insertion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.refinement.em.schedule import Continue, advance
from cryotorch.refinement.pose_search.candidates import ALWAYS_CLIMBED
from cryotorch.refinement.pose_search.finders import RELOCATE
from cryotorch.refinement.pose_search.search import (
    WINNER_STEPS,
    grid_step,
    ladder,
    shift_grid,
)
from cryotorch.refinement.settings import EMSettings, ScheduleSettings
from cryotorch.refinement.state import ConvergenceHistory
from cryotorch.results import TimeLeft

# Of a run whose history does not show them yet: gain of the curve by its area, motion in standard errors, turn in radians.
FIRST_GAIN, FIRST_MOTION, FIRST_TURN = 0.15, 2.0, 0.04
# What takes as long as so many points: sums and maxima of the coarse search, the steps of a climb.
SUMS_AND_MAXIMA, STEP = 64, 30
SPREAD = 1.15  # factor by which the same iteration takes more or less on a machine that does other things too
PER_IMAGE = (
    "transform",
    "coarse",
    "polish",
    "bound",
    "insert",
)  # phases; the others are per iteration


@dataclass(frozen=True)
class Pace:
    """How a run goes on.

    Attributes:
        gain, motion: what an iteration leaves of the last gain (of the larger of the last two, as noise may hide one) and the last motion; climb: the part of the way to the highest limit that
            the crossing makes; searched: the part of the particles, at most, that are not ``stable_poses`` after the coming iteration.
    """

    gain: float
    motion: float
    climb: float
    searched: float


# Of 53 runs, simulated and real ones, all ended between these two from the start, and 94 % of their iterations saw the end there.
QUICK, SLOW = Pace(0.0, 0.2, 0.0, 0.3), Pace(0.6, 0.85, 0.7, 1.0)


@dataclass(frozen=True)
class Measured:
    """What an iteration, or its first batches, took.

    Attributes:
        seconds: phase -> wall seconds, "rest" what is in none.
        particles: that it took; limit: shells that it aligned; first: whether no pose was known; searched: the part of the
            particles that the coarse search took.
    """

    seconds: dict[str, float]
    particles: float
    limit: float
    first: bool
    searched: float = 1.0


def steps(past: ConvergenceHistory, settings: ScheduleSettings, pace: Pace) -> list[Continue]:
    """The iterations that the schedule would still order."""
    course = ConvergenceHistory(**{name: list(values) for name, values in vars(past).items()})
    ordered = []
    while isinstance(step := advance(course, settings), Continue):
        if step.refine_ctf:
            course.ctf_after.append(len(course))
        _go_on(course, step, settings, pace)
        ordered.append(step)
    return ordered


def _go_on(
    course: ConvergenceHistory, step: Continue, settings: ScheduleSettings, pace: Pace
) -> None:
    last = course.crossings[-1] if len(course) else settings.first_limit
    crossing = last + pace.climb * max(0.0, settings.highest_limit - last)
    areas, motions, turns = course.areas, course.motions, course.turns
    if not areas:
        area, motion, turn = crossing, math.inf, math.inf
    else:
        gains = [after - before for before, after in pairwise(areas[-3:])]
        area = areas[-1] + pace.gain * max(0.0, *gains, FIRST_GAIN * areas[-1] * (not gains))
        motion = pace.motion * motions[-1] if math.isfinite(motions[-1]) else FIRST_MOTION
        turn = pace.motion * turns[-1] if math.isfinite(turns[-1]) else FIRST_TURN
    values = crossing, area, step.max_shell, turn, motion, step.share
    names = "crossings", "areas", "max_shells", "turns", "motions", "shares"
    for name, value in zip(names, values, strict=True):
        getattr(course, name).append(value)


def seconds_of(
    step: Continue,
    begins: bool,
    searched: float,
    particles: float,
    cost: Measured,
    settings: EMSettings,
) -> float:
    """Seconds of an iteration by what another one took; ``begins``: no pose is known, ``searched``: as in ``Measured``."""
    there = work(step.max_shell, begins, settings)
    here = work(cost.limit, cost.first, settings)
    there["coarse"] *= searched / cost.searched
    many = particles * step.share / cost.particles
    return sum(
        seconds
        * (there[phase] / here[phase] if phase in here else 1)
        * (many if phase in PER_IMAGE else 1)
        for phase, seconds in cost.seconds.items()
    )


def work(limit: float, first: bool, settings: EMSettings) -> dict[str, float]:
    """Phase -> what it has to do for an image, or for the templates, at a limit in shells; comparable within a phase only."""
    search, box = settings.search, settings.box
    lowest = min(search.coarse_limit, limit)
    if first:
        lowest = min(lowest, settings.schedule.first_limit)

    def points(shells: float) -> int:
        return half_plane(box).count(min(shells, box / 2))

    rotations, step = grid_step(lowest, search) ** -3, max(1.0, box / (4 * lowest))
    reach = max(search.shift_extent if first else RELOCATE, step)
    poses = points(lowest) + SUMS_AND_MAXIMA
    if settings.local is None:
        poses *= rotations * len(shift_grid(reach, step))
    candidates = search.candidates if first else ALWAYS_CLIMBED
    evaluations = search.newton_steps + 1
    fine = WINNER_STEPS * (points(limit) + STEP)
    for rung, at in enumerate(ladder(lowest, limit)):
        fine += max(1, candidates // 3**rung) * evaluations * (points(at) + STEP)
    return {
        "coarse": poses,
        "templates": rotations * (points(lowest) + SUMS_AND_MAXIMA),
        "polish": fine,
        "bound": fine,
        "insert": points(2 * limit + 8) + points(box / 2) / 2,  # inserted; residuals
    }


def time_left(
    past: ConvergenceHistory,
    particles: float,
    searched: float,
    cost: Measured,
    settings: EMSettings,
) -> TimeLeft:
    """From now to the end of the last iteration; ``particles``: of the whole set, ``searched``: as in ``Measured``, in the coming one."""
    seconds, iterations, ctf = [], [], len(past) in past.ctf_after
    for pace in (QUICK, SLOW):
        ordered = steps(past, settings.schedule, pace)
        spent = 0.0
        for number, step in enumerate(ordered):
            many = searched if number == 0 or len(past) < 2 else min(searched, pace.searched)
            begins = cost.first and number == len(past) == 0
            # How many candidates the first search leaves to climb is not known: as many as later ones, at least.
            few = pace is SLOW and cost.first and not begins
            known = replace(cost, first=False) if few else cost
            spent += seconds_of(step, begins, many, particles, known, settings)
        seconds.append(spent)
        iterations.append(len(ordered))
        ctf |= any(step.refine_ctf for step in ordered)
    ends = min(seconds) / SPREAD, max(seconds) * SPREAD
    return TimeLeft(ends, (min(iterations), max(iterations)), ctf)


def measured(
    seconds: dict[str, float],
    particles: float,
    at: tuple[float, bool, float],
    skip: tuple[dict[str, float], int] = ({}, 0),
) -> Measured:
    """What images took by the clock, phase by phase.

    Args:
        at: ``limit``, ``first`` and ``searched`` of ``Measured``; skip: the same of a first batch, in which loops may have been compiled.
    """
    skipped, images = skip if particles > skip[1] else ({}, 0)
    steady = {
        phase: spent - skipped.get(phase, 0.0) if phase in PER_IMAGE else spent
        for phase, spent in seconds.items()
    }
    return Measured(steady, particles - images, *at)


def seconds_of_all(cost: Measured, particles: float) -> float:
    """Of an iteration with so many particles where the cost was measured."""
    many = particles / cost.particles
    return sum(s * (many if phase in PER_IMAGE else 1) for phase, s in cost.seconds.items())
