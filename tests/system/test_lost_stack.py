"""Images that disappear while a job reads them: a sentence, and everything that was finished stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs import homo_refine, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.run_folder import CHECKPOINTS
from cryotorch.report import tensorboard


def test_a_stack_cut_during_a_refinement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dict(box_size=16, pixel_size=6.0, n_particles=40, snr=4.0, shift_sigma=3)
    simulate.run(make_settings("simulate", out=str(tmp_path), **few))
    stack, out = tmp_path / "particles.mrcs", tmp_path / "out"
    whole, draw = stack.read_bytes(), tensorboard.draw

    def cut(result: Any, names: Any) -> Any:
        if result.iteration == 2:
            with open(stack, "r+b") as file:
                file.truncate(len(whole) // 2)
        return draw(result, names)

    def refine(**changes: Any) -> None:
        given = dict(
            particles=str(tmp_path / "particles.star"),
            volume=str(tmp_path / "initial.mrc"),
            out=str(out),
            split_resolution=25,
            trainer__accelerator="cpu",
        )
        homo_refine.run(make_settings("homo_refine", **given, **changes))

    monkeypatch.setattr(tensorboard, "draw", cut)
    with pytest.raises(
        InputError, match=r"particles\.mrcs ends before image 21: it became shorter"
    ):
        refine(max_iterations=4)
    assert len(list((out / CHECKPOINTS).iterdir())) > 0
    assert {"map_half_A.mrc", "map_half_B.mrc", "log.txt"} <= {path.name for path in out.iterdir()}
    stack.write_bytes(whole)
    monkeypatch.setattr(tensorboard, "draw", draw)
    refine(max_iterations=3, resume=True)
    assert json.loads((out / "summary.json").read_text())["iterations"] == 3
