"""3D classes from Python: what the job finds, in tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import cryotorch as ct
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings


def test_classes_are_those_of_the_job(tmp_path: Path) -> None:
    few = dict(box_size=24, pixel_size=8.0, n_particles=200, snr=1.0, seed=1)
    body = dict(second_body="phantom", second_body_states="absent", second_body_size=0.8)
    out = tmp_path / "set"
    simulate.run(make_settings("simulate", out=str(out), **few, **body))
    given = dict(final_resolution=20, initial_resolution=40, n_starts=1, n_repeats=1, device="cpu")
    found = ct.classify(out / "consensus.star", **given)
    assert found.maps.shape == (2, 24, 24, 24) and found.half_maps.shape == (2, 2, 24, 24, 24)
    assert found.pixel_size == pytest.approx(8) and len(found.particles) == 200
    torch.testing.assert_close(found.share.sum(1), torch.ones(200))
    assert found.several is found.found.found.verdict.seen
    found.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "map_class_2.mrc").is_file()
    with pytest.raises(ct.InputError, match="devices=2 cannot be used"):
        ct.classify(out / "consensus.star", devices=2)
