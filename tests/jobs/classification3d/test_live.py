"""What TensorBoard is told while classes are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cryotorch.jobs.classification3d.live import Live
from cryotorch.refinement.hetero.classify import Pass, Run, Start, Step
from cryotorch.refinement.hetero.verdict import Verdict


def test_every_stage_has_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, told = Live(tmp_path), []
    monkeypatch.setattr(live.board, "add", lambda step, values, draw: told.append((step, values)))
    share = torch.ones(4, 2) / 2
    live("starts/1.2", Start(share, -3.5))
    step = Step(1.5, 0.25, 7.0, torch.tensor([0.75, 0.25]))
    state = Pass(share, torch.ones(1, 13), [step, step])
    live("passes/0", state)
    live("runs/0", Run(state, -4.0, Verdict(0.1, 6.0, 50), [-3.5]))
    live("runs/0", None)
    assert told[0] == (3, {"starts/score_run_2": -3.5})
    assert told[1][0] == 2 and told[1][1]["passes_run_1/share_class_1"] == 0.75
    assert told[1][1]["passes_run_1/changed"] == 0.25
    assert told[2] == (1, {"runs/lead": 6.0, "runs/score": -4.0})
    assert len(told) == 3
