"""What is said of a first map."""

from __future__ import annotations

from cryotorch.findings import Finding, remark
from cryotorch.report.sentences import say


def test_one_start_is_not_compared() -> None:
    told = dict(best=1, alike=1, low=9.61, high=9.61, imposed=False)
    assert say(remark("starts", starts=1, **told)) == (
        "one random start, with a score of 9.61: whether others lead to the same map is not known"
    )
    several = say(remark("starts", starts=3, **(told | dict(best=2, alike=2, high=11.2))))
    assert several.startswith("start 2 of 3 goes on; 2 of them show one map.")
    assert several.endswith("from 9.61 to 11.2")
    two = say(remark("starts", starts=2, **(told | dict(alike=2, imposed=True))))
    assert two.startswith(
        "without symmetry: start 1 of 2 is the best, starts with the symmetry imposed begin from it"
    )


def test_starts_with_the_symmetry_imposed_are_a_series_of_their_own() -> None:
    told = dict(starts=3, best=3, lead=6.21, low=20.72, high=20.75)
    alike = say(remark("symmetric_starts", alike=2, **told))
    assert "start 3 of 3 goes on" in alike and "6.2 standard errors" in alike
    assert "(scores from 20.72 to 20.75, not to be compared" in alike
    assert alike.endswith("2 of them show one map")
    apart = say(Finding("symmetric_starts", alike=1, **told))
    assert apart.startswith("With the symmetry imposed") and "another seed" in apart


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
    lost = say(Finding("structure_lost", lead=0.31, before=9.12))
    assert "0.3 standard errors only, without it by 9.1" in lost and "symmetry=C1" in lost
    shown = dict(correlation=0.59, lowest=0.57)
    assert "symmetry=C1" in say(Finding("axes_not_shown", **shown))


def test_classes_are_told_with_share_size_and_whether_they_show_anything() -> None:
    numbers = dict(number=2, share=0.1512, size=1480.6, lead=7.26)
    shown = say(remark("class", **numbers, shapeless=False))
    assert shown.startswith("class 2: 15.1% of the particles, effective number 1,481;")
    assert shown.endswith("by 7.3 standard errors")
    assert say(remark("class", **numbers, shapeless=True)).endswith("as noise or junk does")
    assert say(Finding("classes_empty", empty=1, classes=3)).startswith("1 of 3 classes have less")
    alike = say(Finding("classes_alike", first=1, second=3, correlation=0.957, classes=3))
    assert "Classes 1 and 3 show the same map" in alike and "0.96" in alike
    assert "do not support 3 classes" in alike
