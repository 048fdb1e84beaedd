"""Every finding can be said, and nothing else is in the table."""

from __future__ import annotations

import ast
from pathlib import Path
from string import Formatter

import pytest

from cryotorch.findings import Finding, codes, remark
from cryotorch.report.sentences import TABLE, in_summary, line, plain, said, say

ROOT = Path(__file__).parents[2] / "cryotorch"


def made() -> list[tuple[str, set[str] | None]]:
    """Code and names of the values of every finding that the package makes; None where some are not written out."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Finding", "remark"):
                code, names = node.args[0], {word.arg for word in node.keywords}
                if isinstance(code, ast.Constant):
                    found.append((code.value, None if None in names else names))
                else:
                    assert path.name == "findings.py", f"{path}: a code that is not written out"
    return found


def names_of(code: str) -> set[str]:
    """The values that a code is said with."""
    form = TABLE[code]
    if not isinstance(form, str):
        return set(form.__annotations__) - {"return"}
    return {name for _, name, _, _ in Formatter().parse(form) if name}


def test_every_code_that_is_used_can_be_said_and_no_other_is_in_the_table() -> None:
    assert {code for code, _ in made()} == set(TABLE)


def test_findings_have_the_values_that_their_sentences_need() -> None:
    later = {"cause"}  # comes with ``plus``
    for code, names in made():
        if names is not None:
            assert names == names_of(code) - later, code


def test_a_finding_is_said_with_those_that_it_holds() -> None:
    doubts = (Finding("few_shells", shells=7, coarse=9.96, fine=6.8), Finding("steep", limit=-1000))
    found = Finding("bfactor_uncertain", bfactor=-1500.2, error=90.0, doubts=doubts, wider=15.0)
    assert say(found) == (
        "The fitted B-factor of -1500 ± 90 Å² is uncertain, it rests on 7 shells from 10.0 to 6.8 Å; below -1000 Å² a map is mostly its noise: "
        "look at guinier.png and slices.png, give bfactor=<Å²>, or fit_from=15"
    )
    assert plain(found)["doubts"][1] == {"code": "steep", "limit": -1000}
    lost = Finding("nothing_shared", level=0.5).plus(cause=Finding("half_map_mirrored"))
    assert say(lost).endswith(
        "on): half map B is the mirror image of half map A: flip one with job=volume_tools flip_hand=true"
    )


def test_lines_that_are_serious_begin_with_warning() -> None:
    assert line(Finding("hands_differ", errors=5.1)).startswith("WARNING: half map B agrees better")
    assert line(remark("too_coarse_for_hand")).startswith("The half maps are too")


def test_the_summary_holds_words_and_values() -> None:
    found = Finding("mask_tiny", fraction=0.0003, kind="given")
    assert in_summary([found]) == {
        "warnings": said([found]),
        "findings": [{"code": "mask_tiny", "fraction": 0.0003, "kind": "given"}],
    }
    assert said([found]) == [
        "The mask covers 0.03% of the box only: check that the mask belongs to this map"
    ]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Finding("half_sets", how="kept", seed=3, drawn=0, first=20, second=20),
         "half sets kept as in the input: 20 and 20 particles"),
        (Finding("half_sets", how="completed", seed=0, drawn=10, first=20, second=21),
         "half sets kept, and drawn with seed 0 for the 10 particles without one: 20 and 21 particles"),
        (Finding("poses_at_extent", share=0.75, extent="rotation"),
         "75% of the particles stopped at the rotation extent: widen it"),
        (Finding("not_converged", poses=None, resolution=Finding("resolution_jumped", before=float("nan"), now=9.0)),
         "Not converged, in the last iteration the resolution went from no resolution to 9.00 Å: map"),
        (Finding("symmetry_not_shown", symmetry="D4", resolution=10.0, lowest=0.1, highest=0.1, remedies=()),
         "only 10% as well as with each other; no other symmetry is seen to fit about these axes: take C1"),
        (Finding("no_hand", resolution=8.0, symmetry=""), "or symmetry=as given is not theirs"),
        (Finding("from_map", file="map.mrc", compared=False), "both half sets start from the map map.mrc"),
        (Finding("from_half_maps", first="a", second="b", compared=True), "each half set is compared with its own half map, a and b"),
        (Finding("never_falls", threshold=0.143, nyquist=0.95, resolution=6.0, doubtful=True), "no particle is in both half sets"),
    ],
)  # fmt: skip
def test_the_words_follow_the_values(found: Finding, words: str) -> None:
    assert words in say(found)


def test_findings_are_values() -> None:
    one, other = (Finding("steep", limit=limit) for limit in (-1000, -1000.0))
    assert one == other and len({one, other}) == 1 and one != one.plus(limit=-900)
    assert one.plus(limit=-900)["limit"] == -900 and codes([one]) == ["steep"]
    with pytest.raises(AttributeError):
        one.code = "flat"
