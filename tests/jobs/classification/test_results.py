"""The files agree with each other, and with what other programs expect."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryotorch.data.star import read_star
from cryotorch.jobs.classification.results import UNRESOLVED, told_resolution


def test_a_row_and_an_image_for_each_class(done: Path) -> None:
    table = read_star(done / "classes.star")["model_classes"]
    share = table.floats("rlnClassDistribution")
    assert share.sum() == pytest.approx(1, abs=1e-4) and list(share) == sorted(share, reverse=True)
    assert table["rlnReferenceImage"].tolist() == [f"{n:06d}@classes.mrcs" for n in (1, 2, 3)]
    assert table.floats("cryotorchEffectiveParticles").sum() == pytest.approx(240, abs=0.1)
    with mrcfile.open(done / "classes.mrcs") as stack:
        assert stack.data.shape == (3, 30, 30) and stack.is_image_stack()
        assert float(stack.voxel_size.x) == pytest.approx(128 / 30, rel=1e-4)
        assert stack.data.std((1, 2)).min() > 0
    resolution = table.floats("rlnEstimatedResolution")
    assert all(r == UNRESOLVED or 12 <= r <= 16 for r in resolution)
    assert told_resolution(float("inf")) == "— Å" and told_resolution(9.04) == "9.0 Å"


def test_particles_keep_their_columns(done: Path, simulated: Path) -> None:
    before = read_star(simulated / "particles.star")["particles"]
    after = read_star(done / "particles.star")["particles"]
    kept = set(before) - {"rlnImageName", "rlnOriginXAngst", "rlnOriginYAngst"}
    assert all(np.array_equal(before[label], after[label]) for label in kept)
    assert set(after.integers("rlnClassNumber")) <= {1, 2, 3}
    assert np.abs(after.floats("rlnAnglePsi")).max() <= 180
    posterior = after.floats("rlnMaxValueProbDistribution")
    assert posterior.min() > 0.05 and np.median(posterior) > 0.5 and posterior.max() <= 1.000001
    assert np.hypot(*(after.floats(f"rlnOrigin{a}Angst") for a in "XY")).max() <= 8 + 3 * 4.3


def test_summary_and_picture(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    assert (summary["particles"], summary["classes"], summary["box"]) == (240, 3, 30)
    assert len(summary["resolution"]) == 3 and sum(summary["share"]) == pytest.approx(1, abs=1e-4)
    assert (done / "classes.png").stat().st_size > 5000
    assert list((done / "tensorboard").glob("events*"))
