"""The folder of a refinement: whose it is, what goes on, what is replaced, and that nothing is lost on the way."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.manifest import found, read_manifest
from cryotorch.jobs.files.run_folder import BEFORE, RESULTS, checkpoints
from cryotorch.jobs.pages.write import PAGES
from cryotorch.jobs.refinement import trainer

N = 40  # particles of conftest.py


def test_a_run_leaves_the_results_that_are_known_as_such(
    finished: Path, contents: Callable
) -> None:
    left = {path.name for path in finished.iterdir()}
    assert {p.name for p in (finished / "profile").iterdir()} == {
        "iteration_001.pt.trace.json.gz",
        "iteration_001.txt",
    }
    table = (finished / "profile" / "iteration_001.txt").read_text(encoding="utf-8")
    assert all(f" {phase} " in table for phase in ("coarse", "polish", "insert", "transform"))
    assert set(contents(finished)) == {*found(finished, (*RESULTS, *PAGES)), "manifest.json"}
    assert set(read_manifest(finished).files) == set(found(finished, (*RESULTS, *PAGES)))
    assert left >= {
        "map.mrc",
        "map_sharp.mrc",
        "map_half_A.mrc",
        "map_half_B.mrc",
        "mask_fsc.mrc",
        "particles.star",
    }
    assert len(list((finished / "plots").glob("*.png"))) == 9
    log = (finished / "log.txt").read_text(encoding="utf-8")
    assert "rotation new   shift new" in log and "Finished: max_iterations=1" in log
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["particles"] == N and summary["iterations"] == 1
    assert summary["wall_seconds"] >= summary["seconds"]["total"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "already holds a run: name another folder, or add resume=true"),
        (dict(overwrite=True, volume="unknown_box.mrc"), "12 voxels"),
        (dict(resume=True, box_size=14), r"box is 14, was 16"),
        (dict(resume=True, symmetry="C2"), r"symmetry is C2, was C1"),
        (dict(resume=True, particles="other_defocus.star"), "the particles are not the same"),
        (dict(resume=True, seed=5), "the half sets are not the same"),
        (dict(resume=True, invert=True), r"invert is true, was false.*: give what it was started"),
        (dict(resume=True, initial_resolution=40), r"initial_resolution is 40, was auto"),
        (
            dict(resume=True, volume="inverted.mrc"),
            r"volume is .*inverted\.mrc, was .*initial\.mrc",
        ),
    ],
    ids=[
        "held",
        "overwrite",
        "box",
        "symmetry",
        "particles",
        "half sets",
        "invert",
        "start",
        "volume",
    ],
)
def test_a_run_is_not_touched_by_what_does_not_belong_to_it(
    finished: Path, changes: dict, message: str, refine: Callable, contents: Callable
) -> None:
    before = contents(finished)
    with pytest.raises(InputError, match=message):
        refine(finished, **changes)
    assert contents(finished) == before


def test_a_finished_run_is_left_alone_and_goes_on_when_more_iterations_are_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refine: Callable
) -> None:
    out, straight = tmp_path / "out", tmp_path / "straight"
    refine(out)
    capsys.readouterr()
    maps = (out / "map.mrc").read_bytes()
    refine(out, resume=True)
    assert "has finished already: max_iterations=1" in capsys.readouterr().out
    assert (out / "map.mrc").read_bytes() == maps
    refine(out, resume=True, max_iterations=2)
    shown = capsys.readouterr()
    assert "resumed with max_iterations=2 instead of 1" in shown.out and shown.err == ""
    assert f"goes on from {out}/checkpoints/iteration_001.ckpt, with its poses and" in shown.out
    assert "half sets kept" not in shown.out and "drawn" not in shown.out
    refine(straight, max_iterations=2)
    for name in ("map_half_A.mrc", "map_half_B.mrc", "particles.star"):
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name


def test_a_moved_input_is_no_change(inputs: Path, tmp_path: Path, capsys, refine: Callable) -> None:
    """The same map under another name, and a path that begins elsewhere."""
    out = refine(tmp_path / "out")
    (tmp_path / "moved.mrc").write_bytes((inputs / "initial.mrc").read_bytes())
    refine(out, resume=True, max_iterations=2, volume=f"{tmp_path}/moved.mrc")
    assert "resumed with volume=" in capsys.readouterr().out
    left = yaml.safe_load((out / "config.yaml").read_text())
    assert left["job"] == "homo_refine" and Path(left["started_in"]).is_dir()


def test_overwrite_replaces_a_run_and_nothing_else(
    finished: Path, tmp_path: Path, refine: Callable, contents: Callable
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    mine = {
        "notes.txt": b"a",
        "other.mrc": b"b",
        "plots/mine.png": b"c",
        "checkpoints/x.star": b"d",
    }
    for name, text in mine.items():
        (out / name).write_bytes(text)
    assert (out / "mask_refine.mrc").exists()
    refine(out, overwrite=True, mask_mode="none", initial_resolution=40)
    left = contents(out)
    assert mine.items() <= left.items() and "mask_refine.mrc" not in left
    assert set(left) == {*mine, "manifest.json", *read_manifest(out).files}


@pytest.mark.parametrize(
    "name", ["map.mrc", "particles.star", "plots/fsc.png", "tensorboard/events.out.tfevents.1"]
)
@pytest.mark.parametrize(
    "how", [{}, dict(overwrite=True), dict(resume=True)], ids=["plain", "overwrite", "resume"]
)
def test_what_no_run_wrote_is_never_touched(
    tmp_path: Path, name: str, how: dict, refine: Callable, contents: Callable
) -> None:
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(
        InputError, match=f"already holds {name}, which no run of cryotorch is known"
    ):
        refine(tmp_path / "out", **how)
    assert contents(tmp_path) == {f"out/{name}": b"mine"}


def test_a_finished_run_without_its_checkpoints_is_kept(
    finished: Path, tmp_path: Path, refine: Callable, contents: Callable
) -> None:
    """They were removed to save space."""
    out = shutil.copytree(finished, tmp_path / "out")
    for path in checkpoints(out):
        path.unlink()
    before = contents(out)
    with pytest.raises(
        InputError, match=r"finds no checkpoint .* got to iteration 1: its results stay"
    ):
        refine(out, resume=True, max_iterations=2)
    with pytest.raises(InputError, match="already holds a run"):
        refine(out)
    assert contents(out) == before


def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refine: Callable, contents: Callable
) -> None:
    out = refine(tmp_path / "out", max_iterations=2)
    before, kept = contents(out), checkpoints(out)
    assert [path.name for path in kept] == ["iteration_001.ckpt", "iteration_002.ckpt"]

    def flip(path: Path) -> None:
        torn = bytearray(path.read_bytes())
        torn[len(torn) // 2] ^= 4
        path.write_bytes(torn)

    flip(kept[1])
    capsys.readouterr()
    refine(out, max_iterations=2, resume=True)
    said = capsys.readouterr().out
    assert (
        "iteration_002.ckpt is damaged: its checksum differs: the run goes on from the one" in said
    )
    assert "Iteration  2" in said and "Iteration  1" not in said
    for name in ("map_half_A.mrc", "map_half_B.mrc", "particles.star"):
        assert (out / name).read_bytes() == before[name], name
    for path in kept:
        flip(path)
    damaged = contents(out)
    with pytest.raises(
        InputError, match=r"none before it is whole: start anew with overwrite=true"
    ):
        refine(out, max_iterations=3, resume=True)
    assert contents(out) == damaged


def test_another_jobs_folder_is_left_alone(
    tmp_path: Path, refine: Callable, contents: Callable
) -> None:
    made = dict(box_size=16, pixel_size=6.0, n_particles=10)
    simulate.run(make_settings("simulate", out=str(tmp_path), **made))
    before = contents(tmp_path)
    for how in ({}, dict(overwrite=True), dict(resume=True)):
        with pytest.raises(
            InputError, match="holds a run of job=simulate, which job=homo_refine does not"
        ):
            refine(tmp_path, **how)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("at", ["iteration", "before it", "half way aside", "half way back"])
def test_the_run_before_lives_until_the_first_iteration_of_the_new_one(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
    refine: Callable,
    contents: Callable,
) -> None:
    """A failure, or a kill at any moment, gives the old run or the new one, never a mixture."""
    out = shutil.copytree(finished, tmp_path / "out")
    before = contents(out)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt if at != "iteration" else OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if at == "half way aside":
            calls = iter(range(99))
            real = os.replace
            patch.setattr("os.replace", lambda *a: real(*a) if next(calls) < 5 else die())
        else:
            patch.setattr("cryotorch.jobs.refinement.trainer.write_outputs", die)
        with pytest.raises((InputError, KeyboardInterrupt)):
            refine(out, overwrite=True, initial_resolution=40)
    if at == "before it":
        inside = contents(out / BEFORE)
        assert inside == before
        refine(out, resume=True, initial_resolution=40)
        assert read_manifest(out).iterations == 1 and not (out / BEFORE).exists()
        return
    if at == "half way back":
        for name in contents(out).keys() - {f"{BEFORE}/{name}" for name in before}:
            (out / name).unlink()
        (out / BEFORE / "map.mrc").rename(out / "map.mrc")
    with pytest.raises(InputError, match="already holds a run"):
        refine(out)
    assert contents(out) == before


def test_two_cannot_use_one_folder(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refine: Callable
) -> None:
    out, fit = shutil.copytree(finished, tmp_path / "out"), trainer.fit
    said = []

    def second(*arguments: Any) -> None:
        for how in (dict(overwrite=True), dict(resume=True), {}):
            with pytest.raises(InputError, match=r"is in use by process \d+ on ") as caught:
                refine(out, **how)
            said.append(str(caught.value))
        fit(*arguments)

    monkeypatch.setattr("cryotorch.jobs.refinement.run.fit", second)
    refine(out, overwrite=True)
    assert len(said) == 3 and f"process {os.getpid()} on" in said[0]
    assert not (out / ".lock").exists()


def test_the_input_is_not_overwritten(inputs: Path, refine: Callable, contents: Callable) -> None:
    before = contents(inputs)
    with pytest.raises(InputError, match=r"its particles\.star is an input of this job"):
        refine(inputs, overwrite=True)
    assert contents(inputs) == before


def test_no_input_lies_in_the_folder_of_the_run(
    inputs: Path, tmp_path: Path, refine: Callable, contents: Callable
) -> None:
    """Neither a stack that the particles name, nor the folder as its own reference."""
    out = tmp_path / "out"
    (out / "plots").mkdir(parents=True)
    (out / "plots" / "stack.mrcs").write_bytes((inputs / "particles.mrcs").read_bytes())
    tables = read_star(inputs / "particles.star")
    tables["particles"]["rlnImageName"] = [f"{i + 1}@out/plots/stack.mrcs" for i in range(N)]
    write_star(tmp_path / "outside.star", tables)
    (tmp_path / "link.mrc").symlink_to(inputs / "initial.mrc")
    before = contents(out)
    with pytest.raises(InputError, match=r"its stack\.mrcs is an input of this job, name a folder"):
        refine(out, particles=str(tmp_path / "outside.star"), overwrite=True)
    with pytest.raises(InputError, match=r"it is itself an input of this job"):
        refine(out, volume=str(out))
    assert contents(out) == before


@pytest.mark.parametrize("below", ["", "/sub/folder"])
def test_a_file_in_place_of_the_folder(inputs: Path, below: str, refine: Callable) -> None:
    with pytest.raises(InputError, match=r"out=.* cannot be made: .*a_file is a file"):
        refine(Path(f"{inputs}/a_file{below}"))
    assert (inputs / "a_file").read_text() == "not a folder"
