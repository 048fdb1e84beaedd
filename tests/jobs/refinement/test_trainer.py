"""The end of a run that goes wrong: a bad image, Ctrl-C, a full disk or device; each is told, and the folder can be used again."""

from __future__ import annotations

import importlib
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs.files.run_folder import CHECKPOINTS
from cryotorch.report import tensorboard

N = 40  # particles of conftest.py


def test_a_bad_image_met_later_leaves_a_folder_that_can_be_used_again(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refine: Callable
) -> None:
    monkeypatch.setattr("cryotorch.refinement.em.initialise.START_IMAGES", 4)
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
        refine(tmp_path / "out", particles="late.star")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_is_told_from_a_failure_and_can_be_resumed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    refine: Callable,
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
        refine(out, max_iterations=3)
    assert signal.getsignal(signal.SIGINT) is before and threading.excepthook is threads
    assert capfd.readouterr().err == ""
    assert (out / "log.txt").read_text(encoding="utf-8").rstrip().endswith("interrupted")
    assert [p.name for p in (out / CHECKPOINTS).iterdir()] == ["iteration_001.ckpt"]
    monkeypatch.setattr(tensorboard, "draw", draw)
    refine(out, max_iterations=2, resume=True)
    assert json.loads((out / "summary.json").read_text())["iterations"] == 2


def test_a_full_disk_ends_the_run_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refine: Callable
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cryotorch.jobs.refinement.trainer.write_outputs", full)
    with pytest.raises(InputError, match=r"cannot be written .No space left on device.: mend that"):
        refine(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "place",
    [
        "cryotorch.refinement.em.initialise.prepare_reference",
        "cryotorch.ops.resolution.sharpening.guinier_fit",
    ],
)
def test_a_full_device_ends_the_run_with_a_sentence_and_can_be_resumed(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refine: Callable
) -> None:
    """In the set-up, and in the M-step of the second iteration."""
    out, (owner, name) = tmp_path / "out", place.rsplit(".", 1)
    inner, calls = getattr(importlib.import_module(owner), name), []

    def full(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) == 2 or name == "prepare_reference":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(*arguments)

    monkeypatch.setattr(place, full)
    cure = (
        "choose a smaller box_size"
        if name == "prepare_reference"
        else "resume=true and trainer=cpu"
    )
    with pytest.raises(InputError, match=f"too small for particles of 16 pixels: .*{cure}"):
        refine(out, max_iterations=2)
    assert out.exists() == (name != "prepare_reference")
    if out.exists():
        monkeypatch.setattr(place, inner)
        refine(out, max_iterations=2, resume=True)
        assert json.loads((out / "summary.json").read_text())["iterations"] == 2
