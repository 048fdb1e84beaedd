"""Which folders are compared, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.pages.compared import compared_runs, entry
from cryotorch.jobs.pages.write import MOST_RUNS


def made(folder: Path, **summary: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("job: homo_refine\n")
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_folders_once_and_those_of_a_sweep(tmp_path: Path) -> None:
    a, b = (made(tmp_path / "sweep" / name) for name in ("seed=0", "seed=1"))
    (tmp_path / "sweep" / "notes").mkdir()
    found = compared_runs([str(b), str(tmp_path / "sweep"), f"{a}/"])
    assert [p.resolve() for p in found] == [b.resolve(), a.resolve()]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"runs=.*gone cannot be used: there is no such folder"):
        compared_runs([str(tmp_path / "gone")])
    with pytest.raises(InputError, match=r"no run has left a config\.yaml"):
        compared_runs([str(tmp_path)])
    for k in range(MOST_RUNS + 1):
        made(tmp_path / f"run{k:02d}")
    with pytest.raises(InputError, match=rf"{MOST_RUNS} have room on a page, name fewer"):
        compared_runs([str(tmp_path)])


def test_entries(tmp_path: Path) -> None:
    assert entry(made(tmp_path / "a", resolution=7.0))["said"].startswith("homo_refine, 7.00 Å (")
    none = entry(made(tmp_path / "b", resolution=None))["said"]
    assert none.startswith("homo_refine, no resolution is claimed")
    assert entry(made(tmp_path / "c"))["said"] == "homo_refine, it judges no resolution"
