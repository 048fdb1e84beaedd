"""The top of a page claims what the summary claims, and says why where that is nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cryotorch.report.page.headline import DOUBTS, REFUSE, seconds, tiles, warnings
from cryotorch.report.page.run_files import RunFiles
from cryotorch.report.sentences import TABLE


def shown(run: RunFiles, **summary: object) -> dict[str, tuple[str, str, bool]]:
    found = replace(run, summary={**run.summary, **summary})
    return {t.name: (t.value, t.note, t.doubtful) for t in tiles(found)}


def test_numbers_have_their_units(run: RunFiles) -> None:
    found = shown(run)
    assert found["Resolution"][0] == "9.41 Å" and next(iter(found)) == "Resolution"
    assert found["Particles"][:2] == ("400", "half sets of 200 and 200")
    assert found["B-factor applied"][:2] == ("−100 Å²", "fitted: −120 ± 6 Å²")
    assert found["Pixel size"][0] == "2.5 Å" and found["Box"][0] == "32 px"
    assert found["Rotation change, median"][0] == "1.25°"
    assert found["Time"][0] == "10.0 s"


def test_that_no_junk_stands_apart_is_no_share_of_it(run: RunFiles) -> None:
    assert shown(run, junk_share=0.0)["Match the map badly"][0] == "none apart"
    value, note, _ = shown(run, junk_share=0.104)["Match the map badly"]
    assert value == "10.4%" and "a pose that was not found" in note
    assert "Match the map badly" not in shown(run, junk_share=None)


def test_no_claim_reads_as_one(run: RunFiles) -> None:
    said = ["Odd", "Nothing to claim: the half maps agree no further than noise may"]
    value, note, doubtful = shown(run, resolution=None, warnings=said)["Resolution"]
    assert value == "no resolution is claimed" and doubtful
    assert note == "the half maps agree no further than noise may"
    other = shown(run, resolution=None, warnings=[], no_resolution="one map")["Resolution"]
    assert other[1] == "one map"
    coarse = "The half maps agree to 36 Å only, which is no resolution to claim: check that both are of one refinement"
    found = {"warnings": ["Odd", coarse], "findings": [{"code": "mask_tiny"}, {"code": "agree_coarsely"}]}  # fmt: skip
    note = shown(run, resolution=None, **found)["Resolution"][1]
    assert note == "The half maps agree to 36 Å only, which is no resolution to claim"


def test_findings_that_end_a_claim_are_such_as_there_are() -> None:
    assert set(REFUSE) | set(DOUBTS) <= set(TABLE)


def test_a_claim_that_its_warnings_put_in_doubt_says_so(run: RunFiles) -> None:
    doubts = {"code": "other_map"}, {"code": "random_phases_agree", "fsc": 0.87}
    for finding in doubts:
        _, note, doubtful = shown(run, findings=[finding])["Resolution"]
        assert doubtful and note.endswith("to be doubted, see the warnings")
    for finding in {"code": "run_bfactor_uncertain"}, {"code": "random_phases_agree", "fsc": 0.3}:
        assert not shown(run, findings=[finding])["Resolution"][2]


def test_classes_say_why_none_is_claimed_and_local_numbers_how_they_spread(run: RunFiles) -> None:
    why = "Nothing to claim: the half maps agree no further than noise may: more particles"
    classes = [{"class": 1, "share": 0.4, "resolution": None, "no_resolution": why}]
    note = shown(run, classes=classes)["Class 1"][1]
    assert note == "no resolution is claimed: the half maps agree no further than noise may"
    local = {"median": 8.1, "percentiles": {"5": 8.0, "95": 10.314}, "threshold": 0.5}
    note = shown(run, local_resolution=local)["Local resolution, median"][1]
    assert note == "5 to 95 %: 8.00 to 10.31 Å; local FSC = 0.5"
    defocus = {"rms_change": 18.7, "median_sigma": 75.6}
    assert shown(run, defocus=defocus)["Defocus change, root mean square"][:2] == ("19 Å", "standard error of one: 76 Å")  # fmt: skip
    assert shown(run, real=1, components=[{}, {}])["Components that are real"][1] == "of 2 looked for"  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "note"),
    [
        ({"ended_by": "noise"}, "beyond it the half maps agree no further than noise may"),
        ({"ended_by": "nyquist"}, "limited by the pixel size"),
        ({"resolution": 5.0, "nyquist": 5.0, "ended_by": None}, "limited by the pixel size"),
        ({"ended_by": "limit"}, "or better: images were used no further"),
        ({"ended_by": "threshold"}, "FSC = 0.143, corrected for the mask"),
    ],
)
def test_what_ends_the_curve(run: RunFiles, entries: dict, note: str) -> None:
    assert shown(run, **entries)["Resolution"][1].startswith(note)


def test_lists_and_other_summaries_are_no_claims(run: RunFiles) -> None:
    assert "Resolution" not in shown(run, resolution=[12.0, None])
    bare = replace(run, summary={"particles": "many", "box": True})
    assert tiles(bare) == []
    assert [(t.name, t.value) for t in tiles(bare, 1200)] == [("Particles", "1,200")]
    (even,) = tiles(replace(run, summary={"cfar": 0.4, "even_from": {"cfar": 0.5}}))
    assert even.doubtful and even.note == "even from 0.5 on"


def test_a_run_that_was_stopped_warns(run: RunFiles) -> None:
    stopped = replace(run, summary={"final": False, "iterations": 3, "warnings": ["x"]})
    assert "results of iteration 3" in warnings(stopped)[0] and warnings(stopped)[1] == "x"
    assert warnings(run) == []


def test_times() -> None:
    assert [seconds(v) for v in (3.21, 99, 240, 7200)] == ["3.2 s", "99.0 s", "4.0 min", "2.0 h"]
