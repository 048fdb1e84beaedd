"""What is wrong with a machine is seen, and told with a remedy."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cryotorch.jobs.doctor import machine
from cryotorch.version import __version__


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    check = machine.versions()
    assert f"cryotorch {__version__}, Python 3." in check.found and "numba " in check.found
    assert check.mend == ""

    def lost(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", lost)
    assert machine.versions().mend.startswith("pip install numpy scipy numba")


def test_a_device_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for tool, mend in ((None, ""), ("/usr/bin/nvidia-smi", "torch does not see")):
        monkeypatch.setattr(machine.shutil, "which", lambda name, tool=tool: tool)
        (check,) = machine.devices()
        assert torch.__version__ in check.found and mend in check.mend
        assert bool(check.mend) == bool(mend)


def test_a_device_that_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a device")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (1e9, 80e9))
    _, check = machine.devices()
    assert check.found == "a device, 80.0 GB, 1.0 free" and "end them" in check.mend


def test_more_threads_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(machine, "processors", lambda: 4)
    check = machine.threads()
    assert check.found == "64 for 4 processors" and "OMP_NUM_THREADS=4" in check.mend


def test_loops_that_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine.compiled, "LISTENER", SimpleNamespace(kept=True))
    assert machine.loops() == ("loops", "compiled in the first run", "")
    (tmp_path / "a.nbi").touch()
    assert machine.loops().found == "1 files of compiled loops kept"
    monkeypatch.setattr(machine.compiled, "LISTENER", SimpleNamespace(kept=False))
    assert "NUMBA_CACHE_DIR" in machine.loops().mend


def test_room_and_speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check = machine.writing(tmp_path)
    assert check.found.endswith("MB/s") and float(check.found.split()[0]) > 1
    assert list(tmp_path.iterdir()) == []
    assert machine.writing(tmp_path / "gone").mend == "go to a folder that you can write to"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e9))
    assert machine.disk(tmp_path).found.startswith("1.0 GB free") and machine.disk(tmp_path).mend
    monkeypatch.setattr(machine, "host_memory", lambda: int(1e9))
    assert machine.memory().mend
