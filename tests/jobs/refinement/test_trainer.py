"""The refinement job from outside: bad input is refused before anything is written, good options do what they say."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
import yaml

from cryotorch.data.mrc import write_stack, write_volume
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs import homo_refine, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.manifest import found, read_manifest
from cryotorch.jobs.files.run_folder import BEFORE, CHECKPOINTS, RESULTS, checkpoints
from cryotorch.jobs.refinement import trainer
from cryotorch.report import tensorboard

BOX, PIXEL, N = 16, 6.0, 40
FAST: dict[str, Any] = dict(max_iterations=1, split_resolution=25, trainer__accelerator="cpu")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles, maps and masks, good and bad."""
    folder = tmp_path_factory.mktemp("inputs")
    few = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=4.0, shift_sigma=3)
    simulate.run(make_settings("simulate", out=str(folder), **few))
    volume = mrcfile.read(folder / "initial.mrc").copy()
    maps = {
        "blank": (np.zeros_like(volume), PIXEL),
        "inverted": (-volume, PIXEL),
        "off_axes": (np.roll(volume, 4, axis=2), PIXEL),
        "unknown_box": (volume[2:-2, 2:-2, 2:-2], 1.0),
        "unknown_mask": (volume[2:-2, 2:-2, 2:-2] > volume.std(), 1.0),
        "elsewhere": (volume, PIXEL / 2),
        "resampled": (volume, 0.9 * PIXEL),
        "mask255": (255.0 * (volume > volume.std()), PIXEL),
        "mask": ((volume > volume.std()).astype(np.float32), PIXEL),
    }
    for name, (values, pixel_size) in maps.items():
        write_volume(
            folder / f"{name}.mrc", torch.as_tensor(np.array(values, np.float32)), pixel_size
        )
    with mrcfile.open(folder / "elsewhere.mrc", "r+") as file:
        file.header.origin.x = 500
    images = mrcfile.read(folder / "particles.mrcs").copy()
    for name, stack in {"nan": images, "flat": np.ones_like(images)}.items():
        write_stack(folder / f"{name}.mrcs", [stack], N, BOX, PIXEL)
        _star(folder, name, lambda table, name=name: _rename(table, name))
    with mrcfile.mmap(folder / "nan.mrcs", "r+") as file:
        file.data[-1, 3:] = np.nan
    _star(folder, "one_half", lambda table: table.update(rlnRandomSubset=np.ones(N, dtype=int)))
    _star(folder, "posed", _pose)
    _star(folder, "other_defocus", lambda table: table.update(rlnDefocusU=np.full(N, 15000.0)))
    (folder / "a_file").write_text("not a folder")
    return folder


def _star(folder: Path, name: str, change: Callable) -> None:
    tables = read_star(folder / "particles.star")
    change(tables["particles"])
    write_star(folder / f"{name}.star", tables)


def _rename(table: Any, name: str) -> None:
    table["rlnImageName"] = [f"{i + 1:06d}@{name}.mrcs" for i in range(N)]


def _pose(table: Any) -> None:
    for label in (
        "rlnAngleRot",
        "rlnAngleTilt",
        "rlnAnglePsi",
        "rlnOriginXAngst",
        "rlnOriginYAngst",
    ):
        table[label] = np.linspace(-5, 5, N)


def refine(inputs: Path, out: Path, **changes: Any) -> Path:
    """Run the job; names of inputs may be given without their folder."""
    given = {"particles": "particles.star", "volume": "initial.mrc", **FAST, **changes}
    for name in ("particles", "volume", "mask"):
        if given.get(name):
            given[name] = str(inputs / given[name])
    homo_refine.run(make_settings("homo_refine", out=str(out), **given))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one iteration, not to be changed."""
    return refine(inputs, tmp_path_factory.mktemp("finished") / "run", profile=True)


def test_a_run_leaves_the_results_that_are_known_as_such(finished: Path) -> None:
    left = {path.name for path in finished.iterdir()}
    assert {p.name for p in (finished / "profile").iterdir()} == {
        "iteration_001.pt.trace.json.gz",
        "iteration_001.txt",
    }
    table = (finished / "profile" / "iteration_001.txt").read_text(encoding="utf-8")
    assert all(f" {phase} " in table for phase in ("coarse", "polish", "insert", "transform"))
    assert set(contents(finished)) == {*found(finished, RESULTS), "manifest.json"}
    assert set(read_manifest(finished).files) == set(found(finished, RESULTS))
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
        (dict(particles="missing.star"), r"missing\.star does not exist"),
        (
            dict(particles="nan.star"),
            r"Image 40 of .*nan\.mrcs has 208 of 256 pixels that are not finite",
        ),
        (dict(particles="flat.star"), r"Image 1 of .*flat\.mrcs is blank"),
        (dict(particles="one_half.star"), "is 1 for all 40 particles.*half_sets=resplit"),
        (dict(volume="missing.mrc"), r"missing\.mrc does not exist"),
        (dict(volume="blank.mrc"), r"volume=.*blank\.mrc is blank"),
        (
            dict(volume="unknown_box.mrc"),
            r"volume=.* has 12 voxels per edge but the particles have 16",
        ),
        (dict(volume="elsewhere.mrc"), r"volume=.* lies .* from the middle .* outside the box"),
        (dict(volume="inverted.mrc"), "contrast is opposite: change invert"),
        (dict(mask="mask255.mrc"), r"mask=.* values from 0 to 1, got 0 to 255"),
        (dict(mask="unknown_mask.mrc"), r"mask=.* has 12 voxels"),
        (dict(symmetry="Q3"), "symmetry=Q3 cannot be used"),
        (dict(box_size=18), "box_size must be even and at most 16, got 18"),
        (dict(initial_resolution=5000), r"initial_resolution=5000.* at most 48 Å"),
        (dict(max_align_resolution=90), r"max_align_resolution=90.* at most 48 Å"),
        (dict(split_resolution=5), r"split_resolution=5.* above 12 Å"),
        (dict(particle_diameter=200), r"particle_diameter=200.* 96 Å wide"),
        (dict(particle_diameter=20), r"particle_diameter=20 .* at least 4 pixels, 24 Å"),
        (dict(search__shift_extent="20px"), r"search.shift_extent=120.* 48 Å from its middle"),
        (dict(trainer__devices=0), "no trainer with .*trainer.devices=0"),
        (
            dict(trainer__accelerator="quantum"),
            "trainer.accelerator must be auto or cpu or gpu or cuda",
        ),
        (dict(trainer__precision="16-mixed"), "trainer.precision=16-mixed .* needs 32-true"),
        (dict(resume=True), "resume=true finds no run"),
    ],
    ids=lambda value: (
        "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else ""
    ),
)
def test_bad_input_is_refused_before_anything_is_written(
    inputs: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        refine(inputs, tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


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
        (dict(resume=True, initial_resolution=40), r"initial_resolution is 40, was 30"),
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
    inputs: Path, finished: Path, changes: dict, message: str
) -> None:
    before = contents(finished)
    with pytest.raises(InputError, match=message):
        refine(inputs, finished, **changes)
    assert contents(finished) == before


def test_a_finished_run_is_left_alone_and_goes_on_when_more_iterations_are_allowed(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, straight = tmp_path / "out", tmp_path / "straight"
    refine(inputs, out)
    capsys.readouterr()
    maps = (out / "map.mrc").read_bytes()
    refine(inputs, out, resume=True)
    assert "has finished already: max_iterations=1" in capsys.readouterr().out
    assert (out / "map.mrc").read_bytes() == maps
    refine(inputs, out, resume=True, max_iterations=2)
    shown = capsys.readouterr()
    assert "resumed with max_iterations=2 instead of 1" in shown.out and shown.err == ""
    assert f"goes on from {out}/checkpoints/iteration_001.ckpt, with its poses and" in shown.out
    assert "half sets kept" not in shown.out and "drawn" not in shown.out
    refine(inputs, straight, max_iterations=2)
    for name in ("map_half_A.mrc", "map_half_B.mrc", "particles.star"):
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name


def test_a_moved_input_is_no_change(inputs: Path, tmp_path: Path, capsys) -> None:
    """The same map under another name, and a path that begins elsewhere."""
    out = refine(inputs, tmp_path / "out")
    (tmp_path / "moved.mrc").write_bytes((inputs / "initial.mrc").read_bytes())
    refine(inputs, out, resume=True, max_iterations=2, volume=f"{tmp_path}/moved.mrc")
    assert "resumed with volume=" in capsys.readouterr().out
    left = yaml.safe_load((out / "config.yaml").read_text())
    assert left["job"] == "homo_refine" and Path(left["started_in"]).is_dir()


def test_overwrite_replaces_a_run_and_nothing_else(
    inputs: Path, finished: Path, tmp_path: Path
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
    refine(inputs, out, overwrite=True, mask_mode="none", initial_resolution=40)
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
    inputs: Path, tmp_path: Path, name: str, how: dict
) -> None:
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(
        InputError, match=f"already holds {name}, which no run of cryotorch is known"
    ):
        refine(inputs, tmp_path / "out", **how)
    assert contents(tmp_path) == {f"out/{name}": b"mine"}


def test_a_finished_run_without_its_checkpoints_is_kept(
    inputs: Path, finished: Path, tmp_path: Path
) -> None:
    """They were removed to save space."""
    out = shutil.copytree(finished, tmp_path / "out")
    for path in checkpoints(out):
        path.unlink()
    before = contents(out)
    with pytest.raises(
        InputError, match=r"finds no checkpoint .* got to iteration 1: its results stay"
    ):
        refine(inputs, out, resume=True, max_iterations=2)
    with pytest.raises(InputError, match="already holds a run"):
        refine(inputs, out)
    assert contents(out) == before


def test_a_damaged_checkpoint_is_passed_over(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = refine(inputs, tmp_path / "out", max_iterations=2)
    before, kept = contents(out), checkpoints(out)
    assert [path.name for path in kept] == ["iteration_001.ckpt", "iteration_002.ckpt"]

    def flip(path: Path) -> None:
        torn = bytearray(path.read_bytes())
        torn[len(torn) // 2] ^= 4
        path.write_bytes(torn)

    flip(kept[1])
    capsys.readouterr()
    refine(inputs, out, max_iterations=2, resume=True)
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
        refine(inputs, out, max_iterations=3, resume=True)
    assert contents(out) == damaged


def test_a_stack_that_was_replaced_is_not_gone_on_with(
    inputs: Path, finished: Path, tmp_path: Path
) -> None:
    """The same names and sizes, but other pixels."""
    write_star(tmp_path / "particles.star", read_star(inputs / "particles.star"))
    noise = np.random.default_rng(0).normal(size=(N, BOX, BOX))
    write_stack(tmp_path / "particles.mrcs", [noise], N, BOX, PIXEL)
    before = contents(finished)
    changes = dict(particles=str(tmp_path / "particles.star"), max_iterations=2)
    with pytest.raises(InputError, match="the images are not the same"):
        refine(inputs, finished, resume=True, **changes)
    assert contents(finished) == before


def test_a_stack_that_changes_while_it_is_read_ends_the_run(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of that iteration is written; the same images written again are nothing new."""
    write_star(tmp_path / "particles.star", read_star(inputs / "particles.star"))
    whole = (inputs / "particles.mrcs").read_bytes()
    stack, out = tmp_path / "particles.mrcs", tmp_path / "out"
    stack.write_bytes(whole)
    draw = tensorboard.draw

    def change(result: Any, names: Any) -> Any:
        stack.write_bytes(
            whole if result.iteration == 1 else whole[:1024] + whole[2048:] + whole[1024:2048]
        )
        return draw(result, names)

    given = dict(particles=str(stack.with_suffix(".star")), max_iterations=3)
    with monkeypatch.context() as patch:
        patch.setattr(tensorboard, "draw", change)
        with pytest.raises(
            InputError, match=r"particles\.mrcs was changed while the run was reading"
        ):
            refine(inputs, out, **given)
    assert (
        read_manifest(out).iterations
        == 2
        == json.loads((out / "summary.json").read_text())["iterations"]
    )


def test_another_jobs_folder_is_left_alone(inputs: Path, tmp_path: Path) -> None:
    made = dict(box_size=16, pixel_size=6.0, n_particles=10)
    simulate.run(make_settings("simulate", out=str(tmp_path), **made))
    before = contents(tmp_path)
    for how in ({}, dict(overwrite=True), dict(resume=True)):
        with pytest.raises(
            InputError, match="holds a run of job=simulate, which job=homo_refine does not"
        ):
            refine(inputs, tmp_path, **how)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("at", ["iteration", "before it", "half way aside", "half way back"])
def test_the_run_before_lives_until_the_first_iteration_of_the_new_one(
    inputs: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
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
            refine(inputs, out, overwrite=True, initial_resolution=40)
    if at == "before it":
        inside = contents(out / BEFORE)
        assert inside == before
        refine(inputs, out, resume=True, initial_resolution=40)
        assert read_manifest(out).iterations == 1 and not (out / BEFORE).exists()
        return
    if at == "half way back":
        for name in contents(out).keys() - {f"{BEFORE}/{name}" for name in before}:
            (out / name).unlink()
        (out / BEFORE / "map.mrc").rename(out / "map.mrc")
    with pytest.raises(InputError, match="already holds a run"):
        refine(inputs, out)
    assert contents(out) == before


def test_two_cannot_use_one_folder(
    inputs: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, fit = shutil.copytree(finished, tmp_path / "out"), trainer.fit
    said = []

    def second(*arguments: Any) -> None:
        for how in (dict(overwrite=True), dict(resume=True), {}):
            with pytest.raises(InputError, match=r"is in use by process \d+ on ") as caught:
                refine(inputs, out, **how)
            said.append(str(caught.value))
        fit(*arguments)

    monkeypatch.setattr("cryotorch.jobs.refinement.run.fit", second)
    refine(inputs, out, overwrite=True)
    assert len(said) == 3 and f"process {os.getpid()} on" in said[0]
    assert not (out / ".lock").exists()


def test_the_input_is_not_overwritten(inputs: Path) -> None:
    before = contents(inputs)
    with pytest.raises(InputError, match=r"its particles\.star is an input of this job"):
        refine(inputs, inputs, overwrite=True)
    assert contents(inputs) == before


def test_no_input_lies_in_the_folder_of_the_run(inputs: Path, tmp_path: Path) -> None:
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
        refine(inputs, out, particles=str(tmp_path / "outside.star"), overwrite=True)
    with pytest.raises(InputError, match=r"it is itself an input of this job"):
        refine(inputs, out, volume=str(out))
    assert contents(out) == before


@pytest.mark.parametrize("below", ["", "/sub/folder"])
def test_a_file_in_place_of_the_folder(inputs: Path, below: str) -> None:
    with pytest.raises(InputError, match=r"out=.* cannot be made: .*a_file is a file"):
        refine(inputs, Path(f"{inputs}/a_file{below}"))
    assert (inputs / "a_file").read_text() == "not a folder"


def test_a_bad_image_met_later_leaves_a_folder_that_can_be_used_again(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryotorch.refinement.em.initialise.SAMPLE", 4)
    monkeypatch.setattr(
        "cryotorch.jobs.refinement.run.normalize_needed", lambda images, choice: False
    )
    tables = read_star(inputs / "nan.star")
    tables["particles"]["rlnRandomSubset"] = np.r_[1, 2, [2, 1] * (N // 2 - 1)]
    late = tables["particles"]["rlnImageName"].tolist()
    late[-1], late[N // 2] = late[N // 2], late[-1]  # not among the few that are looked at first
    tables["particles"]["rlnImageName"] = late
    write_star(inputs / "late.star", tables)
    with pytest.raises(InputError, match=r"Image 40 of .* not finite"):
        refine(inputs, tmp_path / "out", particles="late.star")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(particles="posed.star"), "are not used, the search is global"),
        (dict(volume="resampled.mrc"), "resampled from 16 voxels per edge of 5.4 Å to 16 voxels"),
        (dict(volume="inverted.mrc", invert=True), r"inverted.mrc looks inverted"),
        (dict(volume="off_axes.mrc", symmetry="D2"), "not D2 about the axes"),
        (dict(half_sets="resplit", particles="one_half.star"), "20 and 20 particles"),
        (
            dict(mask="mask.mrc", mask_mode="static", bfactor=-100.0, minibatch_size=1),
            "of 16 pixels",
        ),
        (
            dict(mask_mode="none", search__posterior="best_pose", normalize=True, box_size=14),
            "40 particles of 14 pixels",
        ),
    ],
    ids=["poses", "resampled", "inverted", "symmetry", "resplit", "static", "none"],
)
def test_options_do_what_they_say(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict, said: str
) -> None:
    out = refine(inputs, tmp_path / "out", **changes)
    shown = capsys.readouterr()
    assert said in shown.out and shown.err == ""
    assert (out / "mask_refine.mrc").exists() == (changes.get("mask_mode") != "none")
    if "bfactor" in changes:
        mask = mrcfile.read(inputs / "mask.mrc")
        assert np.allclose(mrcfile.read(out / "mask_refine.mrc"), mask, atol=1e-6)


def test_ctrl_c_is_told_from_a_failure_and_can_be_resumed(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    draw = tensorboard.draw

    def press(result: Any, names: Any) -> Any:
        if result.iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return draw(result, names)

    monkeypatch.setattr(tensorboard, "draw", press)
    before, threads = signal.getsignal(signal.SIGINT), threading.excepthook
    with pytest.raises(KeyboardInterrupt, match=r"cryotorch out=.*/out resume=true"):
        refine(inputs, out, max_iterations=3)
    assert signal.getsignal(signal.SIGINT) is before and threading.excepthook is threads
    assert capfd.readouterr().err == ""
    assert (out / "log.txt").read_text(encoding="utf-8").rstrip().endswith("interrupted")
    assert [p.name for p in (out / CHECKPOINTS).iterdir()] == ["iteration_001.ckpt"]
    monkeypatch.setattr(tensorboard, "draw", draw)
    refine(inputs, out, max_iterations=2, resume=True)
    assert json.loads((out / "summary.json").read_text())["iterations"] == 2


def test_a_full_disk_ends_the_run_with_a_sentence(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cryotorch.jobs.refinement.trainer.write_outputs", full)
    with pytest.raises(InputError, match=r"cannot be written .No space left on device.: mend that"):
        refine(inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "place",
    [
        "cryotorch.refinement.em.initialise.prepare",
        "cryotorch.ops.resolution.sharpening.guinier_fit",
    ],
)
def test_a_full_device_ends_the_run_with_a_sentence_and_can_be_resumed(
    place: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the set-up, and in the M-step of the second iteration."""
    out, (owner, name) = tmp_path / "out", place.rsplit(".", 1)
    inner, calls = getattr(importlib.import_module(owner), name), []

    def full(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) == 2 or name == "prepare":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(*arguments)

    monkeypatch.setattr(place, full)
    cure = "choose a smaller box_size" if name == "prepare" else "resume=true and trainer=cpu"
    with pytest.raises(InputError, match=f"too small for particles of 16 pixels: .*{cure}"):
        refine(inputs, out, max_iterations=2)
    assert out.exists() == (name != "prepare")
    if out.exists():
        monkeypatch.setattr(place, inner)
        refine(inputs, out, max_iterations=2, resume=True)
        assert json.loads((out / "summary.json").read_text())["iterations"] == 2
