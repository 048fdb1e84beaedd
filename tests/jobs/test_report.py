"""Pages of runs that are over: of several side by side, and of one that was killed half way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs import report
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.pages.write import PAGE


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """One with a claim, and one that was killed after two iterations."""
    summaries = {
        "good": {"resolution": 6.5, "final": True, "particles": 1200},
        "killed": {"resolution": None, "final": False, "iterations": 2},
    }
    for name, summary in summaries.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
        (tmp_path / name / "log.txt").write_text("begins\n")
        (tmp_path / name / "config.yaml").write_text(
            f"job: homo_refine\nseed: {len(name)}\nout: {name}\n"
        )
    return [str(tmp_path / name) for name in summaries]


def work(out: Path, runs: list[str] | None) -> str:
    settings = make_settings("report", runs=runs, out=str(out))
    assert report.run(settings) == out
    return (out / PAGE).read_text(encoding="utf-8")


def test_side_by_side(runs: list[str], tmp_path: Path) -> None:
    text = work(tmp_path / "both", runs)
    assert "<title>2 runs</title>" in text and "<b>6.50 Å</b>" in text
    assert "no resolution is claimed" in text and "results of iteration 2" in text
    assert "<code>seed</code></td><td><code>4</code></td><td><code>6</code></td>" in text
    summary = json.loads((tmp_path / "both" / "summary.json").read_text())
    assert [row["run"] for row in summary["runs"]] == runs
    names = sorted(p.name for p in (tmp_path / "both").iterdir())
    assert names == ["config.yaml", "log.txt", "manifest.json", PAGE, "summary.json"]
    assert not (tmp_path / "good" / PAGE).exists()


def test_a_killed_run_gets_its_page(runs: list[str], tmp_path: Path) -> None:
    text = work(tmp_path / "one", runs[1:])
    assert "<title>killed</title>" in text and "This run has not come to its end" in text


def test_a_damaged_summary_is_said(runs: list[str], tmp_path: Path) -> None:
    (Path(runs[0]) / "summary.json").write_text('{"resolution": 3.1, "parti')
    text = work(tmp_path / "both", runs)
    assert "summary.json of this run cannot be read" in text and "3.1" not in text
    (Path(runs[0]) / "checkpoints").mkdir()
    (Path(runs[0]) / "checkpoints" / "last.ckpt").touch()
    text = work(tmp_path / "one", runs[:1])
    assert "summary.json of this run cannot be read" in text
    assert "not come to its end" not in text and "resume=true</code>" not in text
    (row,) = json.loads((tmp_path / "one" / "summary.json").read_text())["runs"]
    assert row["said"].startswith("homo_refine, summary.json of this run cannot be read")


def test_names_that_are_no_text(runs: list[str], tmp_path: Path) -> None:
    open(os.fsencode(runs[0]) + b"/\xff.mrc", "wb").close()
    assert "%FF.mrc" in work(tmp_path / "one", runs[:1])


def test_bad_input(runs: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"runs=null cannot be used"):
        work(tmp_path / "none", None)
    with pytest.raises(InputError, match=r"runs=\[\] cannot be used"):
        make_settings("report", runs=[])
    with pytest.raises(InputError, match=r"there is no such folder"):
        work(tmp_path / "none", ["gone"])
    with pytest.raises(InputError, match=r"is an input of this job|it is itself"):
        work(Path(runs[0]), runs)
    assert not (tmp_path / "none").exists()
