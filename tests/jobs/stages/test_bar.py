"""The bar of stages."""

from __future__ import annotations

import io
import logging

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


def test_a_long_stage_says_how_long(caplog: pytest.LogCaptureFixture) -> None:
    """Once, from its own beginning: 12 s for a tenth leave 108 s; a quick one says nothing."""
    clock = [0.0]
    bar = StageBar(lambda: clock[0])
    with caplog.at_level(logging.INFO, "cryotorch"):
        for clock[0], stage, done in ((2, "starts", 0.5), (4, "starts", 1.0), (5, "run 1", 0.0), (17, "run 1", 0.1), (27, "run 1", 0.2)):  # fmt: skip
            bar(stage, done)
    bar.close()
    (said,) = caplog.messages
    assert said.startswith("run 1: 1.8 min more at this pace")
