"""The bar of stages."""

from __future__ import annotations

import io

import pytest
from tqdm import tqdm

from cryotorch.jobs.stages import bar as stages
from cryotorch.jobs.stages.bar import StageBar


def test_a_bar_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        stages, "tqdm", lambda **given: tqdm(**given | dict(disable=False, file=io.StringIO()))
    )
    bar = StageBar()
    for stage, done in (("starts", 0.5), ("starts", 1.0), ("poses", 0.5)):
        bar(stage, done)
    bar.close()
    assert bar._bar is not None and (bar._bar.desc, bar._bar.n) == ("poses", 500)
