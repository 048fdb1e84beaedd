"""A sweep's folders and its table of results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cryotorch.jobs.files.manifest import Manifest, read_manifest
from cryotorch.jobs.files.sweep import Run, finish, found_runs, run_name, verdict


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["seed"], "seed=1"),
        (["seed", "search.candidates"], "seed=1_search.candidates=8"),
        (["particles"], "particles=a_b_1_.star"),
        (["mask"], "mask=null"),
        (["trainer.devices"], "trainer.devices=0_1"),
        ([], "homo_refine_3"),
    ],
)
def test_folders_carry_them_in_names_that_can_be_typed(names: list[str], expected: str) -> None:
    overrides = (
        *("job=homo_refine", "seed=1", "search.candidates=8", "particles='a/b (1).star'"),
        *("mask=null", "trainer.devices=[0,1]"),
    )
    assert run_name(overrides, names, "homo_refine", 3) == expected


def test_long_names_are_cut_and_stay_apart() -> None:
    names = {run_name([f"particles={'x' * 300}{n}"], ["particles"], "j", n) for n in range(3)}
    assert len(names) == 3 and max(map(len, names)) < 200


def summary(folder: Path, name: str, **values) -> Run:
    (folder / name).mkdir(parents=True)
    (folder / name / "config.yaml").write_text("")
    (folder / name / "summary.json").write_text(json.dumps(values))
    return Run(name, str(folder / name))


def test_the_table_of_results(tmp_path: Path) -> None:
    summary(tmp_path, "seed=10", resolution=7.3149, iterations=6, wall_seconds=61.24,
            messages=["WARNING: a turn", "all is well"])  # fmt: skip
    summary(tmp_path, "seed=9", resolution=12, seconds={"total": 3.0}, warnings=[])
    (tmp_path / "seed=11").mkdir()
    (tmp_path / "seed=11" / "config.yaml").write_text("")
    runs = found_runs(tmp_path)
    assert [run.name for run in runs] == ["seed=9", "seed=10", "seed=11"]
    text = finish([*runs, Run("seed=-1", "", "it must not be negative")], tmp_path)
    assert text == (tmp_path / "sweep.txt").read_text().rstrip("\n")
    lines = text.splitlines()
    assert lines[0].split() == ["run", "resolution", "iterations", "seconds", "warnings"]
    assert lines[1].split() == ["seed=9", "12.00", "Å", "-", "3.0", "0"]
    assert lines[2].split() == ["seed=10", "7.31", "Å", "6", "61.2", "1"]
    assert lines[3].split() == ["seed=11", "failed", "-", "-", "-"]
    assert lines[5] == "seed=10: WARNING: a turn"
    assert lines[7] == "seed=-1: error: it must not be negative"
    kept = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert kept[1]["resolution"] == 7.3149 and kept[1]["warnings"] == ["a turn"]
    assert kept[0]["iterations"] is None and kept[3]["error"] == "it must not be negative"


def test_tensorboard_runs_get_what_differed(tmp_path: Path) -> None:
    """Into a folder that the run owns as before, so that it can be replaced."""
    run = summary(tmp_path, "seed=3", resolution=7.5, seconds=2.0)
    out = Path(run.out)
    (out / "config.yaml").write_text("job: homo_refine\nseed: 3\nsearch:\n  grid_step: null\n")
    (out / "tensorboard").mkdir()
    Manifest("homo_refine", ("config.yaml", "summary.json")).write(out)
    finish([run], tmp_path, ["seed", "search.grid_step"])
    assert run.values == {"seed": "3", "search.grid_step": "null"}
    (file,) = (out / "tensorboard").iterdir()
    manifest = read_manifest(out)
    assert manifest is not None and manifest.owns(f"tensorboard/{file.name}")
    kept = json.loads((tmp_path / "sweep.json").read_text())["runs"][0]
    assert kept["values"] == run.values


def test_the_end_names_the_finest_run_and_where_to_look(tmp_path: Path) -> None:
    runs = [
        Run("seed=0", "s/seed=0", resolution=6.401, warnings=["odd"], values={"seed": "0"}),
        Run("seed=1", "s/seed=1", resolution=7.2, warnings=[], values={"seed": "1"}),
        Run("seed=2", "s/seed=2", error="no"),
    ]
    said, where = verdict(runs, tmp_path).split("\n")
    assert said == "Finest of 3 runs: seed=0, 6.40 Å, with 1 warning to read: s/seed=0"
    assert where == f"The table is also in {tmp_path / 'sweep.txt'}"
    (tmp_path / "report.html").touch()
    alike = [*runs, Run("seed=3", "s/seed=3", resolution=6.4, values={"seed": "3"})]
    said, where = verdict(alike, tmp_path).split("\n")
    assert said.startswith("Finest, reached by 2 of 4 runs: seed=0; seed=3, 6.40 Å, with 1 warning")
    assert where.endswith("report.html")
    assert verdict(runs[2:], tmp_path).startswith("No run claims a resolution.")
