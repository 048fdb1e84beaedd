"""What is said of a first map."""

from __future__ import annotations

from cryotorch.findings import Finding, remark
from cryotorch.report.sentences import say


def test_one_start_is_not_compared() -> None:
    told = dict(best=1, alike=1, low=9.61, high=9.61)
    assert say(remark("starts", starts=1, **told)) == (
        "one random start, with a score of 9.61: whether others lead to the same map is not known"
    )
    several = say(remark("starts", starts=3, **(told | dict(best=2, alike=2, high=11.2))))
    assert several.startswith("start 2 of 3 goes on; 2 of them show one map.")
    assert several.endswith("from 9.61 to 11.2")


def test_the_hand_that_fits_is_told_with_both_correlations() -> None:
    numbers = dict(correlation=0.984, other=0.617)
    kept = say(remark("hand_fitted", given="like", mirrored=False, **numbers))
    assert kept.endswith("correlation 0.98, the other hand 0.62")
    assert say(remark("hand_fitted", given="like", mirrored=True, **numbers)).endswith(
        "and the poses with it"
    )
    alone = say(remark("hand_fitted", given="like", mirrored=False, correlation=0.984, other=None))
    assert "other hand" not in alone
    assert "like=<map>" in say(remark("either_hand"))


def test_what_is_no_map_says_what_to_try() -> None:
    assert "invert=true" in say(Finding("no_structure", lead=0.31))
    assert "0.3 standard errors only" in say(Finding("no_structure", lead=0.31))
    assert say(Finding("contrast_inverted", invert="true")).endswith("try invert=true")
    assert "another seed" in say(Finding("starts_disagree", starts=4))
    shown = dict(correlation=0.59, lowest=0.57)
    assert "symmetry=C1" in say(Finding("axes_not_shown", **shown))
