"""Components from Python are those of the job, without its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import cryotorch as ct
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings


def test_components_in_memory_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = dict(box_size=24, pixel_size=6.0, n_particles=160, snr=1.0, resolution=14.0, seed=2)
    source = tmp_path / "set"
    simulate.run(make_settings("simulate", out=str(source), second_species="phantom", **size))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    how = dict(n_components=1, max_resolution=16.0, iterations=5, n_frames=2, device="cpu")
    found = ct.variability(source / "truth.star", **how)
    assert not list(Path().iterdir())
    assert found.components.shape == (1, *found.mean.shape) and found.coordinates.shape == (160, 1)
    assert float(found.errors[0]) > 5 and found.warnings == []
    assert float(found.sigma.mean()) < 1
    found.save("saved")
    volume = ct.read_map("saved/component_1.mrc")
    assert torch.allclose(volume.volume, found.components[0])
    assert volume.pixel_size == pytest.approx(found.pixel_size)
    with pytest.raises(ct.InputError, match="out cannot be used here"):
        ct.variability(source / "truth.star", out="here")
