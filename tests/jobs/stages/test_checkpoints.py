"""Checkpoints of stages: whose they are, and what may differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.fingerprint import OtherRun
from cryotorch.jobs.stages.checkpoints import StageFingerprint, fixed
from cryotorch.refinement.runtime.checkpoints import AtomicCheckpoints

RUN = {"job": "ab_initio", "images": "abc"}


def written(folder: Path, **values: Any) -> Path:
    path = folder / "checkpoints" / "iteration_001.ckpt"
    AtomicCheckpoints().save_checkpoint(values, path)
    return path


def test_the_stages_of_the_same_run(tmp_path: Path) -> None:
    path = written(tmp_path, run=RUN, stages={"starts/0": torch.ones(3)})
    assert torch.equal(StageFingerprint(**RUN).check(path)["starts/0"], torch.ones(3))
    with pytest.raises(OtherRun, match="the images are not the same"):
        StageFingerprint(**RUN | {"images": "abd"}).check(path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (dict(stages={}), "lacks what tells its run"),
        (dict(run=RUN), "lacks the stages"),
        (dict(run=RUN, stages=[1]), "lacks the stages"),
        (dict(run=RUN, stages={1: 2}), "lacks the stages"),
        (dict(run={"job": [1]}, stages={}), "lacks what tells its run"),
    ],
    ids=str,
)
def test_checkpoints_of_something_else(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        StageFingerprint(**RUN).check(written(tmp_path, **values))
    assert not isinstance(caught.value, OtherRun)


def test_what_stages_depend_on_is_fixed() -> None:
    names = fixed(make_settings("ab_initio"), ("like", "model"))
    assert {"seed", "class", "n_classes", "symmetry", "max_particles", "normalize"} <= set(names)
    assert not {"like", "model", "out", "resume", "device", "devices", "write"} & set(names)
