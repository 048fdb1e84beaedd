"""What runs before doubt follows their files, once and through any number of jobs, and nothing follows files of unknown origin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cryotorch.api.particles import Reconstruction
from cryotorch.data.mrc import write_volume
from cryotorch.findings import Finding, codes
from cryotorch.jobs import local_resolution, sharpen, validation_fsc
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.manifest import Manifest
from cryotorch.jobs.fsc.advice import Advice, heard
from cryotorch.jobs.inputs.half_maps import load_half_maps
from cryotorch.jobs.inputs.source_run import bars, doubts, doubts_of_result, run_of
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.claims import ENDED, UNKNOWN
from cryotorch.report.sentences import in_summary, say

NO_HAND = Finding("no_hand", resolution=8.0, symmetry="O")
NOISE = Finding("within_noise", level=0.2, resolution=9.0, symmetric=False)
TINY = Finding("mask_tiny", fraction=0.001, kind="given")
STEEP = Finding("run_bfactor_uncertain", bfactor=-900.0, error=80.0, doubts=())
HALVES = ("map_half_A.mrc", "map_half_B.mrc")
BOX, PIXEL = 36, 3.0


def run(
    folder: Path, *found: Finding, resolution: float | None = 5.0, job="homo_refine", **more: object
) -> Path:
    """A folder as a run leaves it, with files that hold nothing."""
    folder.mkdir()
    files = (*HALVES, "particles.star", "summary.json")
    for name in files:
        (folder / name).touch()
    shells = {"shared": 0.0, "inserted": None}
    said = {"resolution": resolution, "shells": shells, "box": BOX, **in_summary(found), **more}
    (folder / "summary.json").write_text(json.dumps(said))
    Manifest(job, files).write(folder)
    return folder


def test_the_run_of_a_file_is_the_one_whose_manifest_names_it(tmp_path: Path) -> None:
    made = run(tmp_path / "refined")
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.copy(made / HALVES[0], other)
    (made / "mine.mrc").touch()
    (tmp_path / "link.mrc").symlink_to(made / HALVES[0])
    assert run_of(made) == run_of(made / HALVES[0]) == run_of(tmp_path / "link.mrc") == made
    for strange in (other / HALVES[0], made / "mine.mrc", other, tmp_path / "nothing.mrc"):
        assert run_of(strange) is None


def test_what_it_doubts_of_maps_and_poses_follows_its_files_once(tmp_path: Path) -> None:
    made = run(tmp_path / "refined", NO_HAND, TINY, STEEP)
    (found,) = doubts(made, made / "particles.star", None, *(made / name for name in HALVES))
    assert found.values == {
        "job": "homo_refine", "run": str(made), "of": "no_hand", "said": say(NO_HAND)
    }  # fmt: skip
    assert say(found) == f"homo_refine in refined, where this comes from, warned: {say(NO_HAND)}"
    copied = shutil.copy(made / HALVES[0], tmp_path / "copied.mrc")
    assert doubts(copied) == [] and doubts(run(tmp_path / "sound", TINY)) == []


def test_a_chain_of_jobs_passes_them_on_as_they_are(tmp_path: Path) -> None:
    first = run(tmp_path / "first", NO_HAND)
    second = run(
        tmp_path / "second", *doubts(first), Finding("steep", limit=1.0), job="reconstruct"
    )
    third = run(tmp_path / "third", *doubts(second, first), job="local_refine")
    found = doubts(third, first, second)
    assert [(x["job"], x["of"]) for x in found] == [
        ("homo_refine", "no_hand"), ("reconstruct", "steep")
    ]  # fmt: skip
    assert "warned: homo_refine" not in say(found[0])


def test_a_run_that_was_stopped_says_so(tmp_path: Path) -> None:
    (found,) = doubts(run(tmp_path / "stopped", final=False, iterations=4))
    assert "has not come to its end (these are the results of iteration 4)" in say(found)
    second = run(tmp_path / "second", found)
    assert doubts(second) == [found]


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"findings": 3, "warnings": [{}]}', '{"findings": [4]}']
)
def test_a_damaged_summary_says_nothing(tmp_path: Path, text: str) -> None:
    made = run(tmp_path / "refined")
    (made / "summary.json").write_text(text)
    assert doubts(made) == []


def test_what_claims_nothing_by_its_half_maps_is_judged_again_but_not_in_silence(
    tmp_path: Path,
) -> None:
    earlier = doubts(run(tmp_path / "refined", NOISE, resolution=None))
    assert codes(earlier) == ["earlier_claims_none"] and not bars(earlier)
    claimed = heard(Advice(True, [TINY]), earlier)
    assert claimed.claims and codes(claimed.warnings) == ["earlier_claims_none", "mask_tiny"]
    assert "rests on another mask" in say(claimed.warnings[0]) and say(NOISE) in say(earlier[0])
    nothing = heard(Advice(False, [NOISE]), earlier)  # which says it already
    assert nothing == Advice(False, [NOISE])
    # a validation that claims something has its own word, and passes no other on
    assert doubts(run(tmp_path / "second", *earlier, job="validation_fsc")) == []


def test_what_claims_nothing_for_other_reasons_claims_nothing_later(tmp_path: Path) -> None:
    earlier = doubts(run(tmp_path / "refined", NO_HAND, resolution=None))
    assert codes(earlier) == ["earlier_warning", "earlier_bars"]
    found = heard(Advice(True, [TINY]), earlier)
    assert not found.claims
    assert codes(found.warnings) == ["earlier_warning", "mask_tiny", "earlier_bars"]
    assert say(found.warnings[-1]).startswith("Nothing to claim: homo_refine in refined")
    second = run(tmp_path / "second", *found.warnings, resolution=None, job="reconstruct")
    assert doubts(second) == earlier  # once, and of the run that knows why


def test_results_in_memory_pass_on_the_same(tmp_path: Path) -> None:
    earlier = doubts(run(tmp_path / "refined", NO_HAND))
    (before, own) = doubts_of_result(
        "reconstruct", [*earlier, TINY, Finding("hands_differ", errors=5.0)], True
    )
    assert before == earlier[0] and own["of"] == "hands_differ"
    assert say(own).startswith("reconstruct, where this comes from, warned: half map B")
    assert codes(doubts_of_result("refine", [NOISE], False)) == ["earlier_claims_none"]
    halves = torch.zeros(2, 8, 8, 8)
    judged = SimpleNamespace(warnings=[NO_HAND], claims=False, known=UNKNOWN)
    made = Reconstruction(*(halves[0], halves, halves[0], 2.0, judged, None), _save=print)
    known = made.halves[2]
    assert codes(known.earlier) == ["earlier_warning", "earlier_bars"]


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with half maps that agree to about 6 Å, and doubts of its own."""
    made = run(tmp_path_factory.mktemp("runs") / "refined", NO_HAND, STEEP)
    truth = phantom(BOX, PIXEL, point_group("C1"))
    draw = torch.Generator().manual_seed(0)
    noise = 0.5 * truth.std() * torch.randn(2, BOX, BOX, BOX, generator=draw)
    for name, half in zip(HALVES, truth + noise, strict=True):
        write_volume(made / name, half, PIXEL)
    return made


@pytest.mark.parametrize("job", [validation_fsc, sharpen, local_resolution])
def test_the_jobs_of_half_maps_repeat_the_doubts_of_their_refinement(
    job, refined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = job.__name__.rpartition(".")[2]
    out = job.run(make_settings(name, volume=str(refined), out=str(tmp_path / "out"), seed=1))
    found, words = json.loads((out / "summary.json").read_text()), say(doubts(refined)[0])
    assert (
        found["ended_by"] in ENDED
        and found["resolution"] < 12
        and found["warnings"].count(words) == 1
    )
    assert found["findings"][0]["of"] == "no_hand"
    assert f"WARNING: {words}" in (out / "log.txt").read_text()
    page, terminal = (out / "report.html").read_text(), capsys.readouterr().out
    assert "homo_refine in refined, where this comes from, warned:" in page
    assert terminal.count("homo_refine in refined, where this comes from, warned: the half") == 2


def test_half_maps_that_were_validated_keep_them_and_copied_ones_have_none(
    refined: Path, tmp_path: Path
) -> None:
    settings = make_settings("validation_fsc", volume=str(refined), out=str(tmp_path / "judged"))
    validation_fsc.run(settings)
    chained = load_half_maps(str(tmp_path / "judged"), None, None)
    assert chained.known.earlier == tuple(doubts(refined)) and len(chained.known.earlier) == 1
    copies = [shutil.copy(refined / name, tmp_path) for name in HALVES]
    assert load_half_maps(None, *map(str, copies)).known.earlier == ()


def test_nothing_is_claimed_of_half_maps_whose_poses_claim_nothing(
    refined: Path, tmp_path: Path
) -> None:
    void = run(tmp_path / "void", NO_HAND, resolution=None)
    for name in HALVES:
        shutil.copy(refined / name, void)
    out = validation_fsc.run(
        make_settings("validation_fsc", volume=str(void), out=str(tmp_path / "out"))
    )
    found = json.loads((out / "summary.json").read_text())
    assert found["resolution"] is None and found["ended_by"] is None
    assert set(found["resolutions"].values()) == set(found["resolutions_at_0.5"].values()) == {None}
    assert (
        found["limited_by_nyquist"] is None and found["random_phases"]["fsc_at_resolution"] is None
    )
    events = b"".join(p.read_bytes() for p in (out / "tensorboard").rglob("events*"))
    assert b"resolution/" not in events and b"fsc/no_mask" in events
    assert found["warnings"][-1].startswith("Nothing to claim: homo_refine in void")
    assert "Resolution: none can be claimed" in (out / "log.txt").read_text()
