"""The processes of a job on several devices; tests/system starts several."""

from __future__ import annotations

import pytest
import torch

from cryotorch.errors import InputError, Stopped
from cryotorch.jobs.stages.processes import team_of


def test_one_process_is_a_team() -> None:
    with team_of("cpu", 1, "to go on, type this") as (team, device):
        assert (team.rank, team.world, device) == (0, 1, torch.device("cpu"))
    assert not torch.distributed.is_initialized()


def test_ctrl_c_says_how_to_go_on() -> None:
    with pytest.raises(Stopped, match="type this") as caught, team_of("cpu", 1, "type this"):
        raise KeyboardInterrupt
    assert caught.value.code == 130
    with pytest.raises(Stopped) as caught, team_of("cpu", 1, "type this"):
        raise Stopped(code=143)
    assert caught.value.code == 143


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match=r"devices=3 cannot be used: .*no more than 2 CUDA"):
        team_of("cuda", 3, "").__enter__()
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with pytest.raises(InputError, match=r"devices=9 cannot be used: .*no more than 8 processors"):
        team_of("cpu", 9, "").__enter__()
