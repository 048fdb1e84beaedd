"""The end of a run is foretold by the schedule itself, its seconds by the work of each phase."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cryotorch.refinement.em.forecast import (
    QUICK,
    SLOW,
    SPREAD,
    measured,
    seconds_of_all,
    steps,
    time_left,
    work,
)
from cryotorch.refinement.settings import (
    EMSettings,
    MaskSettings,
    ScheduleSettings,
    SearchSettings,
)
from cryotorch.refinement.state import ConvergenceHistory

PLAN = ScheduleSettings(6.4, 31.0)
SETTINGS = EMSettings(
    64, 3.0, torch.eye(3)[None], SearchSettings(), PLAN, MaskSettings(), 0.0, (32.0, 32.0)
)
# A refinement of 2,000 images, its phases' seconds without what is the same in each iteration.
COURSE = ConvergenceHistory(
    crossings=[20.8, 30.9, 31.9, 32.0],
    areas=[16.96, 17.86, 17.77, 17.75],
    max_shells=[6.4, 12.8, 31.0, 31.0],
    turns=[math.inf, 0.042, 0.019, 0.005],
    motions=[math.inf, 1.82, 1.50, 0.49],
    shares=[1.0] * 4,
)


def after(done: int) -> ConvergenceHistory:
    return ConvergenceHistory(**{name: values[:done] for name, values in vars(COURSE).items()})


@pytest.mark.parametrize("done", range(4))
def test_the_end_lies_between_the_quick_and_the_slow_way(done: int) -> None:
    quick, slow = (steps(after(done), PLAN, pace) for pace in (QUICK, SLOW))
    assert len(quick) <= 4 - done <= len(slow) <= 20 - done
    assert all(step.max_shell <= PLAN.highest_limit for step in slow)
    assert len(after(done)) == done  # the history itself is left alone


def test_real_images_that_take_many_iterations_are_foreseen() -> None:
    """Of apoferritin, which gained a tenth of a shell with every one of 17 iterations: the end was never said to be near when it was not."""
    areas = [16.71, 17.27, 17.79, 18.01, 18.92, 19.48, 19.91, 20.38, 20.52, 20.84, 20.96, 20.89, 21.0, 20.98, 21.07, 21.07, 21.12]  # fmt: skip
    motions = [math.inf, 2.85, 1.14, 0.91, 0.83, 0.67, 0.54, 0.44, 0.39, 0.33, 0.3, 0.28, 0.24, 0.23, 0.22, 0.22, 0.21]  # fmt: skip
    plan, held = ScheduleSettings(7.68, 64.0), 0
    for done in range(17):
        turns = [0.02 * motion for motion in motions[:done]]
        past = dict(crossings=areas, areas=areas, max_shells=areas, shares=[1.0] * 17)
        known = {n: v[:done] for n, v in past.items()}
        course = ConvergenceHistory(**known, turns=turns, motions=motions[:done])
        held += len(steps(course, plan, QUICK)) <= 17 - done <= len(steps(course, plan, SLOW))
    assert held >= 15


def test_seconds_of_real_images_are_foreseen_from_the_first_iteration() -> None:
    """Apoferritin on an idle machine: 5.9 s for its first iteration at 25 Å, 9 to 13 s for each of the fourteen that followed, 155 s in all."""
    search = SearchSettings(shift_extent=12.8)
    plan, group = ScheduleSettings(7.68, 64.0), torch.eye(3).repeat(24, 1, 1)
    settings = EMSettings(128, 1.5, group, search, plan, MaskSettings(), 0.0, (64.0, 64.0))
    spent = dict(templates=0.09, transform=0.38, coarse=0.45, polish=0.59, insert=1.3, solve=1.2, fsc=0.9, rest=1.0)  # fmt: skip
    first = ConvergenceHistory([16.0], [16.56], [7.68], [math.inf], [math.inf], [1.0])
    low, high = time_left(first, 1349, 1.0, measured(spent, 1349, (7.68, True, 1.0)), settings).seconds  # fmt: skip
    assert low < 155 < high < 4 * 155


def test_extra_passes_rounds_of_the_ctf_and_the_most_iterations_count() -> None:
    few = len(steps(after(2), PLAN, QUICK))
    assert len(steps(after(2), replace(PLAN, extra_final_passes=2), QUICK)) == few + 2
    assert len(steps(after(2), replace(PLAN, ctf_rounds=1), QUICK)) > few + 1
    assert len(steps(after(2), replace(PLAN, max_iterations=3), SLOW)) == 1
    two = replace(SETTINGS, schedule=replace(PLAN, ctf_rounds=2))
    assert time_left(after(2), 10, 1.0, measured({}, 10, (31.0, False, 1.0)), two).ctf


def test_finer_limits_cost_more_and_a_first_search_looks_further() -> None:
    """Products of the coarse search: 4,900 and 2,300 rotations, 9 and 13 shifts; polish of 226 and of 1,509 points at last."""
    low, high = work(12.8, False, SETTINGS), work(31.0, False, SETTINGS)
    assert high["coarse"] == low["coarse"]  # both at its own highest limit
    assert high["polish"] / low["polish"] == pytest.approx(2.5, rel=0.1)
    first = work(6.4, True, replace(SETTINGS, search=SearchSettings(shift_extent=6.4)))
    assert low["coarse"] / first["coarse"] == pytest.approx(2.0, rel=0.1)
    assert low["insert"] > first["insert"]


def test_seconds_are_those_measured_times_work_particles_and_iterations() -> None:
    """By hand: one more iteration at the same limit, of which half the particles are searched."""
    spent = {"coarse": 8.0, "polish": 3.0, "insert": 1.5, "solve": 0.4, "rest": 0.6}
    cost = measured(spent, 2000, (31.0, False, 1.0))
    one = replace(SETTINGS, schedule=replace(PLAN, max_iterations=4))
    found = time_left(after(3), 2000, 0.5, cost, one)
    assert found.iterations == (1, 1)
    assert found.seconds == pytest.approx((9.5 / SPREAD, 9.5 * SPREAD))
    twice = time_left(after(3), 4000, 0.5, cost, one)  # M-step and rest do not grow
    assert twice.seconds[0] == pytest.approx((2 * 8.5 + 1.0) / SPREAD)
    end = time_left(
        after(3), 2000, 0.5, cost, replace(one, schedule=replace(PLAN, max_iterations=3))
    )
    assert (end.seconds, end.iterations) == ((0, 0), (0, 0))


def test_the_first_batch_is_left_out() -> None:
    """It compiled for 7 s; the other nine took 0.2 s each."""
    cost = measured({"coarse": 9.0, "solve": 1.0}, 1000, (6.4, True, 1.0), ({"coarse": 7.2}, 100))
    assert seconds_of_all(cost, 1000) == pytest.approx(3.0)
    only = measured({"coarse": 7.2}, 100, (6.4, True, 1.0), ({"coarse": 7.2}, 100))
    assert seconds_of_all(only, 100) == 7.2
