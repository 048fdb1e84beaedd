"""The schedule is a pure function of the crossings so far."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryotorch.findings import remark
from cryotorch.refinement.em import schedule
from cryotorch.refinement.em.schedule import Continue, Stop, converged_at, share_of
from cryotorch.refinement.settings import ScheduleSettings
from cryotorch.refinement.state import ConvergenceHistory


def plan(**changes: float) -> ScheduleSettings:
    return ScheduleSettings(
        **({"first_limit": 6.0, "highest_limit": 20.0, "least_gain": 0.3} | changes)
    )


PLAN = plan()


def course(areas: list[float], **changes) -> ConvergenceHistory:
    """A run whose curves' sums were these, and its crossings too unless others are given, with poses that rest, but not quite."""
    n = len(areas)
    return ConvergenceHistory(
        **{"crossings": areas, "areas": areas, "motions": [0.24] * n, "shares": [1.0] * n}
        | {"max_shells": areas, "turns": [0.01] * n}
        | changes
    )


def advance(crossings: list[float], settings: ScheduleSettings) -> Continue | Stop:
    """With curves whose sums are as large as their crossings."""
    return schedule.advance(course(crossings), settings)


def test_the_first_limit_is_the_initial_resolution_unless_capped() -> None:
    assert advance([], PLAN) == Continue(6.0)
    assert advance([], plan(highest_limit=4.0)) == Continue(4.0)


def test_the_limit_runs_two_shells_ahead_at_first_then_one() -> None:
    assert advance([8.0], PLAN) == Continue(10.0)
    assert advance([8.0, 9.5], PLAN) == Continue(11.5)
    assert advance([8.0, 9.5, 10.25], PLAN) == Continue(11.25)


def test_the_limit_grows_slowly_while_poses_turn_further_than_it_tells_apart() -> None:
    steady = course([12.0], max_shells=[6.0], turns=[0.1])
    assert schedule.advance(steady, PLAN) == Continue(14.0)
    for turn, limit in ((0.2, 7.5), (math.inf, 12.0), (math.nan, 12.0)):  # 1 / 6 would do
        assert schedule.advance(course([12.0], max_shells=[6.0], turns=[turn]), PLAN) == Continue(
            limit
        )
    assert schedule.advance(course([6.5], max_shells=[8.0], turns=[1.0]), PLAN) == Continue(8.5)


def test_the_limit_stays_within_its_bounds() -> None:
    assert advance([19.5], PLAN) == Continue(20.0)
    assert advance([1.0], PLAN) == Continue(6.0)  # a poor map does not pull it below the start
    assert advance([1.0], plan(highest_limit=4.0)) == Continue(4.0)


def test_stops_when_nothing_improves_for_two_iterations() -> None:
    assert isinstance(advance([8, 10, 10.1], PLAN), Continue)
    stop = advance([8, 10, 10.1, 10.2], PLAN)
    assert stop == Stop(remark("no_gain", gain=0.3))
    # small gains add up: they are measured from the best that counted
    assert isinstance(advance([8, 10, 10.2, 10.35], PLAN), Continue)
    assert isinstance(advance([10, 9.9, 9.8], PLAN), Stop)
    assert isinstance(advance([10, 9, 10.3], PLAN), Continue)


def test_patience_and_least_gain_are_settings() -> None:
    assert isinstance(advance([8, 10, 10, 10], plan(patience=3)), Continue)
    assert isinstance(advance([8, 10, 10, 10, 10], plan(patience=3)), Stop)
    assert isinstance(advance([8, 8.9, 9.8], plan(least_gain=1.0)), Continue)
    assert isinstance(advance([8, 8.5, 8.9], plan(least_gain=1.0)), Stop)


def test_extra_passes_follow_convergence_whatever_they_bring() -> None:
    two = plan(extra_final_passes=2)
    crossings = [8.0, 10.0, 10.0, 10.0]
    step = advance(crossings, two)
    assert step == Continue(11.0, remark("final_passes", passes=2))
    assert advance([*crossings, 10.0], two) == Continue(11.0)
    assert isinstance(advance([*crossings, 10.0, 10.0], two), Stop)
    assert isinstance(advance([*crossings, 12.0, 14.0], two), Stop)
    assert isinstance(advance(crossings, plan(extra_final_passes=0)), Stop)


def test_max_iterations_has_the_last_word() -> None:
    three = plan(max_iterations=3, extra_final_passes=5)
    assert isinstance(advance([6.0, 8.0], three), Continue)
    stop = advance([6.0, 8.0, 10.0], three)
    assert isinstance(stop, Stop) and stop.reason["iterations"] == 3
    assert isinstance(advance([6.0], plan(max_iterations=1)), Stop)


def test_when_it_converged() -> None:
    assert converged_at(course([8.0]), PLAN) is None
    assert converged_at(course([8.0, 8.0]), PLAN) is None
    assert converged_at(course([8.0, 8.0, 8.0]), PLAN) == 3
    assert converged_at(course([8.0, 8.0, 8.0, 12.0]), PLAN) == 3  # and stays so


@given(
    st.lists(st.floats(0, 32), max_size=40), st.floats(1, 10), st.floats(1, 31), st.integers(0, 3)
)
def test_any_history_gives_a_limit_in_bounds_or_an_end(
    crossings: list[float], first: float, most: float, extra: int
) -> None:
    settings = ScheduleSettings(first, most, max_iterations=30, extra_final_passes=extra)
    step = advance(crossings, settings)
    assert step == advance(list(crossings), settings)
    if isinstance(step, Continue):
        assert min(first, most) <= step.max_shell <= most
        assert len(crossings) < 30
    else:
        assert step.reason


@pytest.mark.parametrize("gain", [0.0, 0.1, 1.0])
def test_every_run_ends(gain: float) -> None:
    crossings: list[float] = []
    while isinstance(advance(crossings, PLAN), Continue):
        crossings.append(6 + gain * len(crossings))
        assert len(crossings) <= 30
    assert len(crossings) == (3 if gain < 0.15 else 30)  # two gains of 0.1 are none


def test_convergence_is_judged_by_the_whole_curve() -> None:
    """A crossing at Nyquist stays there while the curve below it still rises, and the other way round."""
    assert isinstance(
        schedule.advance(course([11.0, 11.5, 12.0, 12.5], crossings=[15.0] * 4), PLAN), Continue
    )
    assert isinstance(
        schedule.advance(course([8.0] * 4, crossings=[9.0, 10.0, 11.0, 12.0]), PLAN), Stop
    )
    assert schedule.advance(course([5.0, 5.5], crossings=[9.0, 10.0]), PLAN) == Continue(
        12.0
    )  # the limit follows the crossing


def test_ctf_is_refined_once_nothing_else_helps():
    """Each time the run has converged, as often as asked for, and convergence counts anew from there."""
    two = plan(ctf_rounds=2)
    areas = [8, 10, 10.0, 10.0]
    first = schedule.advance(course(areas), two)
    assert (
        isinstance(first, Continue) and first.refine_ctf and first.note.code == "next_refines_ctf"
    )
    later = [*areas, 10.3]
    assert not schedule.advance(course(later, ctf_after=[4]), two).refine_ctf
    later = [*areas, 10.3, 10.3]
    assert not schedule.advance(course(later, ctf_after=[4]), two).refine_ctf
    again = [*areas, 10.3, 10.3, 10.3]
    assert schedule.advance(course(again, ctf_after=[4]), two).refine_ctf
    assert isinstance(schedule.advance(course(again, ctf_after=[2, 4]), two), Stop)
    assert isinstance(schedule.advance(course(areas), plan(ctf_rounds=0)), Stop)
    assert isinstance(schedule.advance(course(areas), plan(ctf_rounds=2, max_iterations=4)), Stop)


def test_poses_at_rest_need_one_iteration_without_gain_only() -> None:
    areas = [8.0, 10.0, 10.1]
    resting, moving = (course(areas, motions=[math.inf, 2.0, last]) for last in (0.4, 1.0))
    assert isinstance(schedule.advance(resting, PLAN), Stop)
    assert isinstance(schedule.advance(moving, PLAN), Continue)
    gains = course([8.0, 10.0, 10.4], motions=[math.inf, 0.5, 0.1])
    assert isinstance(schedule.advance(gains, PLAN), Continue)
    assert converged_at(course([*areas, 12.0], motions=[math.inf, 2.0, 0.3, 9.0]), PLAN) == 3
    # short steps that hardly become shorter have a long way before them
    slow = course(areas, motions=[math.inf, 0.3, 0.27])
    assert isinstance(schedule.advance(slow, PLAN), Continue)


def test_poses_that_still_turn_are_given_time() -> None:
    """A curve that stands still, or falls at first, is no end while poses turn by more than a third of their standard errors."""
    areas = [18.0, 18.5, 17.0, *[17.1] * 14]
    turning = [math.inf, 4.0, 2.0, 1.3, *[0.7] * 13]
    for done in range(1, 17):
        past = course(areas[:done], motions=turning[:done])
        assert isinstance(schedule.advance(past, PLAN), Continue)
    assert isinstance(schedule.advance(course(areas, motions=turning), PLAN), Stop)
    # nor is it an end where they rest and the curve has fallen
    assert isinstance(schedule.advance(course(areas[:12]), PLAN), Continue)
    # slow gains after the fall count from where the curve was then
    gains = course([18.0, 18.5, 17.0, 17.2, 17.4], motions=[math.inf, 0.42, 0.4, 0.38, 0.34])
    assert isinstance(schedule.advance(gains, PLAN), Continue)


def test_large_sets_begin_with_a_share() -> None:
    large = plan(images=1_000_000)
    assert [share_of(i, large) for i in range(5)] == [0.005, 0.04, 1.0, 1.0, 1.0]
    assert [share_of(i, plan(images=16_000)) for i in range(2)] == [1.0, 1.0]
    assert share_of(0, PLAN) == 1.0
    # as many iterations with all as convergence takes at least
    assert [share_of(i, plan(images=1_000_000, max_iterations=4)) for i in range(2)] == [0.005, 1.0]
    assert share_of(0, plan(images=1_000_000, max_iterations=3)) == 1.0
    assert schedule.advance(ConvergenceHistory(), large) == Continue(6.0, share=0.005)
    assert schedule.advance(course([8.0], shares=[0.005]), large) == Continue(10.0, share=0.04)


def test_convergence_counts_from_the_first_iteration_with_all() -> None:
    large, shares = plan(images=1_000_000), [0.005, 0.04, 1.0, 1.0, 1.0]
    areas = [8.0, 8.0, 8.0, 8.0, 8.0]
    for done in range(5):
        step = schedule.advance(course(areas[:done], shares=shares[:done]), large)
        assert isinstance(step, Continue) and step.share == shares[done]
    assert isinstance(schedule.advance(course(areas, shares=shares), large), Stop)
