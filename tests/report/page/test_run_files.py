"""A folder is read as it is: whole, half written, damaged or none of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cryotorch.report.page.run_files import RunFiles, number, read_run


def test_the_folder_of_a_run(run: RunFiles) -> None:
    assert run.job == "homo_refine" and run.name == "made"
    assert run.config["split_resolution"] == 20.0 and run.summary["iterations"] == 4
    sizes = dict(run.files)
    assert sizes["map.mrc"] == 1024 + 4 * 32**3 == (run.path / "map.mrc").stat().st_size
    assert run.has("plots/fsc.png") and not run.has("fsc.png")
    assert [row["iteration"] for row in run.history] == [1, 2, 3, 4]
    assert run.finished and run.log == ("one line",)


def test_a_run_that_was_stopped_and_one_that_has_no_summary(run: RunFiles, tmp_path: Path) -> None:
    (run.path / "summary.json").write_text('{"final": false, "iterations": 2}')
    assert not read_run(run.path).finished
    (run.path / "summary.json").unlink()
    assert not read_run(run.path).finished  # killed before its first iteration ended
    (tmp_path / "simulated").mkdir()
    (tmp_path / "simulated" / "config.yaml").write_text("job: simulate")
    assert read_run(tmp_path / "simulated").finished


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\0\1", "- a: [", '{"history": 3}'])
def test_damaged_files_count_as_missing(tmp_path: Path, text: str) -> None:
    for name in ("config.yaml", "summary.json", "manifest.json"):
        (tmp_path / name).write_text(text)
    run = read_run(tmp_path, Path("elsewhere/run_7"))
    assert run.job == "" and run.history == [] and run.name == "run_7"
    names = ("config.yaml", "summary.json", "manifest.json")
    read = text == '{"history": 3}', text in ("", "{", "\0\1", "- a: [", "[1, 2]")
    assert read[0] != read[1] and run.damaged == (() if read[0] else names)


def test_a_damaged_summary_does_not_say_whether_the_run_has_ended(run: RunFiles) -> None:
    whole = (run.path / "summary.json").read_text()
    assert run.damaged == ()
    (run.path / "summary.json").write_text(whole[: len(whole) // 2])
    half = read_run(run.path)
    assert half.damaged == ("summary.json",) and half.finished and half.job == "homo_refine"


def test_entries_that_hold_what_no_job_writes_are_left_out(tmp_path: Path) -> None:
    entries = {"findings": "x", "classes": [3], "half_sets": [1.5], "files": [None], "steps": [{}]}
    (tmp_path / "summary.json").write_text(json.dumps(entries))
    assert read_run(tmp_path).summary == {"steps": [{}]}


def test_hidden_files_and_the_page_itself_are_left_out(tmp_path: Path) -> None:
    (tmp_path / ".before").mkdir()
    for name in (".before/map.mrc", ".lock", "report.html", "view.cxc", "map.mrc"):
        (tmp_path / name).touch()
    assert read_run(tmp_path).names == ["map.mrc", "view.cxc"]


def test_numbers() -> None:
    values = (3, 2.5, True, "4", None, float("nan"), float("inf"), [1], 10**400)
    assert [number(v) for v in values] == [3.0, 2.5, *[None] * 7]
