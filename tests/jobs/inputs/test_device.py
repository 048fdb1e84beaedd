"""Where a job computes."""

from __future__ import annotations

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.jobs.inputs.device import pick_device


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, auto in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert (pick_device("auto").type, pick_device("cpu").type) == (auto, "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"device=cuda cannot be used: .* use device=cpu"):
        pick_device("cuda")
