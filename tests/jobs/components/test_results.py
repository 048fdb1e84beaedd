"""Columns, frames and numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume
from cryotorch.jobs.components.results import columns, steps_along, summary, write


def test_only_real_components_have_columns(made) -> None:
    found = columns(made)
    assert list(found) == ["cryotorchComponent1", "cryotorchComponentSigma1"]
    assert np.array_equal(found["cryotorchComponent1"], made.position[:, 0].numpy())
    assert columns(replace(made, real=torch.tensor([False, False]))) == {}


def test_frames_go_from_percentile_to_percentile(made, read, tmp_path) -> None:
    steps = steps_along(made, 1, 5)
    low, high = np.percentile(made.position[:, 0].numpy(), (3, 97))
    assert steps == pytest.approx(np.linspace(low, high, 5))
    few = replace(read, settings=replace(read.settings, n_frames=5, write_unshared=True))
    write(tmp_path, few, made, 1.0)
    first, size = read_volume(tmp_path / "frames_1" / "frame_000.mrc")
    assert size == pytest.approx(read.how.grid.pixel_size)
    assert torch.allclose(first, made.mean + float(low) * made.components[0], atol=1e-5)
    assert len(list((tmp_path / "frames_1").iterdir())) == 5
    assert (tmp_path / "unshared_component_2.mrc").exists()
    assert not (tmp_path / "component_2.mrc").exists()
    assert "open frames_1/frame_*.mrc vseries true" in (tmp_path / "components.cxc").read_text()


def test_summary(made, read) -> None:
    told = summary(read, made, 2.0)
    assert told["real"] == 1 and told["particles"] == 240 and told["images"] == 240
    one, other = told["components"]
    assert one["real"] and not other["real"]
    assert 0.02 < one["relative_power"] < 1.5 and one["resolution"] < 25
    assert one["errors"] == pytest.approx(float(made.gain.errors[0]))
