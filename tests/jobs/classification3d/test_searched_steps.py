"""What is said of a pass, and of what comes of all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch

from cryotorch.jobs.classification3d.searched_steps import told


def test_a_line_for_each_pass() -> None:
    share = torch.tensor([[0.9, 0.1, 0.0]] * 6 + [[0.2, 0.8, 0.0]] * 3 + [[0.0, 0.0, 1.0]])
    state = SimpleNamespace(share=share, classes=2, number=3, changed=0.1, limit=12.0, ess=1.25)
    inputs = SimpleNamespace(images=SimpleNamespace(box=64, pixel_size=3.0))
    said = told("passes", cast("Any", state), cast("Any", inputs))
    assert said == (
        "passes, pass 3: next to 16 Å; particles in classes 60.0%, 30.0%, junk 10.0%, 10.0% changed class; "
        "1.25 classes per particle"
    )
    state.number, state.share = 1, share[:, :2]
    assert "junk" not in told("one map", cast("Any", state), cast("Any", inputs))
