"""3D classes from Python are those of the job, without its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import cryotorch as ct
from cryotorch.jobs import hetero_refine
from cryotorch.jobs.config.catalog import make_settings

HOW = dict(n_classes=2, initial_resolution=20, final_resolution=11, max_passes=2, n_starts=1)


def test_classes_are_those_of_the_job(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    particles, volume = folder / "particles.star", folder / "initial.mrc"
    found = ct.hetero_refine(ct.read_particles(particles), ct.read_map(volume), **HOW)
    assert not list(tmp_path.iterdir())  # no files unless asked
    about = dict(particles=str(particles), volume=str(volume), **HOW)
    hetero_refine.run(make_settings("hetero_refine", out="job", **about))
    found.save("saved")
    for name in ("map_class_1.mrc", "half_a_class_2.mrc", "particles.star"):
        assert Path("saved", name).read_bytes() == Path("job", name).read_bytes()
    n, box = len(found.particles), found.maps.shape[-1]
    assert found.share.shape == (n, 2) and found.half_maps.shape == (2, 2, box, box, box)
    torch.testing.assert_close(found.share.sum(1), torch.ones(n))
    assert not found.several and any("No second state" in w for w in found.warnings)


def test_what_cannot_be_used(folder: Path) -> None:
    with pytest.raises(ct.InputError, match="one class divides nothing"):
        ct.hetero_refine(folder / "particles.star", folder / "initial.mrc")
    with pytest.raises(ct.InputError, match="out cannot be used here"):
        ct.hetero_refine(folder / "particles.star", folder / "initial.mrc", out="here")
