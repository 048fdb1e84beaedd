"""2D classes from Python are those of the job, without its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cryotorch as ct
from cryotorch.data.star import read_star
from cryotorch.jobs import class2d
from cryotorch.jobs.config.catalog import make_settings

HOW = dict(n_classes=4, iterations=4, epochs=1, max_resolution=14.0, mask_diameter=96.0)
HOW |= dict(shift_extent=8.0, device="cpu", select=[1, 2])


def test_classes_are_those_of_the_job(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    particles = folder / "particles.star"
    found = ct.class2d(ct.read_particles(particles), **HOW)
    assert not list(tmp_path.iterdir())  # no files unless asked
    class2d.run(make_settings("class2d", out="job", particles=str(particles), **HOW))
    found.save("saved")
    for name in ("classes.mrcs", "classes.star", "particles.star", "selected.star"):
        assert Path("saved", name).read_bytes() == Path("job", name).read_bytes()
    table = read_star(Path("job/particles.star"))["particles"]
    assert np.array_equal(table.integers("rlnClassNumber"), found.label.numpy() + 1)
    shift = np.stack([table.floats(f"rlnOrigin{axis}Angst") for axis in "XY"], 1)
    assert found.particles.shift.numpy() == pytest.approx(shift, abs=1e-3)
    assert not found.particles.has_pose
    box = found.averages.shape[-1]
    assert found.averages.shape == (4, box, box) and found.pixel_size == pytest.approx(128 / box)
    assert float(found.share.sum()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(found.share, found.share.sort(descending=True).values)
    assert found.resolution.shape == found.suggested.shape == (4,) and len(found.psi) == 120


def test_what_cannot_be_used(folder: Path) -> None:
    with pytest.raises(ct.InputError, match="is a folder: name a file"):
        ct.class2d(folder)
    with pytest.raises(ct.InputError, match="out cannot be used here"):
        ct.class2d(folder / "particles.star", out="here")
    with pytest.raises(ct.InputError, match="n_clases"):
        ct.class2d(folder / "particles.star", n_clases=3)
