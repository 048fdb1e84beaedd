"""What TensorBoard shows while maps are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cryotorch.report import job_tensorboard


def test_every_start_and_every_pass(
    begin: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pictures, where there is time for them."""
    share = job_tensorboard.LiveBoard.__init__.__defaults__
    monkeypatch.setattr(job_tensorboard.LiveBoard.__init__, "__defaults__", (1e9,))
    given: dict[str, Any] = dict(steps=2, passes=2, n_starts=2, n_classes=2)
    found = begin(tmp_path / "run", **given)
    assert share == (0.1,)
    board = EventAccumulator(str(found.out / "tensorboard"), {"images": 0, "scalars": 0})
    board.Reload()
    starts = [event.value for event in board.Scalars("starts/score")]
    assert starts == pytest.approx([s["score"] for s in found.summary["starts"]], rel=1e-5)
    assert [event.step for event in board.Scalars("starts/lead")] == [1, 2]
    shares = [[e.value for e in board.Scalars(f"passes/share_class_{k}")] for k in (1, 2)]
    assert [sum(both) for both in zip(*shares, strict=True)] == pytest.approx([1, 1])
    finest = [event.value for event in board.Scalars("passes/resolution")]
    assert finest[0] > finest[1] == pytest.approx(15, abs=0.1)
    assert board.Scalars("passes/correlation")[0].step == 3
    for name, steps in {"start": [1, 2], "pass": [1, 2]}.items():
        assert [event.step for event in board.Images(f"plots/{name}")] == steps
