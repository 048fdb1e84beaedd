"""Where particles were seen from, and histograms, against what is known of them."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest

from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.ops.geometry.rotations import euler_to_matrix
from cryotorch.report.page.particles import class_counts, histogram, orientations, particles
from cryotorch.report.page.run_files import RunFiles


def density(found: dict) -> np.ndarray:
    raw = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
    return raw.reshape(found["latitudes"], found["longitudes"]) / 255 * found["highest"]


def rotations(rot: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    import torch

    angles = (torch.from_numpy(np.radians(angle)) for angle in (rot, tilt, 0 * rot))
    return euler_to_matrix(*angles).numpy()


def test_one_direction_is_one_spot_at_its_rot_and_tilt() -> None:
    found = orientations(rotations(np.full(500, 40.0), np.full(500, 60.0)))
    grid = density(found)
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    assert -180 + (column + 0.5) * 3 == pytest.approx(40, abs=2)
    assert 90 - (-90 + (row + 0.5) * 3) == pytest.approx(60, abs=2)
    assert found["count"] == 500 and grid.max() > 20


def test_uniform_directions_are_1() -> None:
    generator = np.random.default_rng(1)
    tilt = np.degrees(np.arccos(generator.uniform(-1, 1, 200_000)))
    grid = density(orientations(rotations(generator.uniform(-180, 180, 200_000), tilt)))
    assert np.median(grid) == pytest.approx(1, abs=0.03) and grid.max() < 1.4


def test_copies_by_symmetry() -> None:
    """One view of C4 is four spots of a quarter each; a symmetry that is none counts as C1."""
    view = rotations(np.full(400, 10.0), np.full(400, 90.0))
    alone, four = density(orientations(view)), density(orientations(view, "C4"))
    assert four.max() == pytest.approx(alone.max() / 4, rel=0.1)
    columns = four[30].argsort()[-4:]
    assert sorted((np.sort(columns) * 3) % 90)[0] == pytest.approx(10, abs=3)
    assert orientations(view, "banana")["symmetry"] == "C1"


def test_particles_of_a_run(run: RunFiles) -> None:
    found = particles(run)
    assert found.count == 400 and found.orientations["count"] == 400 and not found.refused
    scale = next(h for h in found.histograms if h["title"].startswith("Scale"))
    assert [s["label"] for s in scale["series"]] == ["Half set A", "Half set B"]
    assert sum(sum(s["counts"]) for s in scale["series"]) == 400
    assert scale["series"][0]["median"] == pytest.approx(1, abs=0.03)


def test_a_file_that_cannot_be_read_is_said(run: RunFiles) -> None:
    (run.path / "particles.star").write_text("data_particles\nloop_\n_rlnX\n1 2\n")
    found = particles(run)
    assert found.count == 0 and "particles.star cannot be read" in found.refused
    large = replace(run, files=(("particles.star", 10**12),))
    assert "too large" in particles(large).refused
    assert particles(replace(run, files=())) is None


def test_histograms() -> None:
    every = [("All", np.ones(1000, bool), "red")]
    values = np.arange(1000.0) + 100
    found = histogram(values, every)
    assert sum(found["series"][0]["counts"]) == 1000 and found["series"][0]["median"] == 599.5
    assert not found["log"] and histogram(np.geomspace(0.01, 10, 1000), every)["log"]
    whole = histogram(np.repeat([1.0, 2.0, 3.0, 3.0], 250), every)
    assert whole["edges"] == [0.5, 1.5, 2.5, 3.5] and whole["series"][0]["counts"] == [250, 250, 500]  # fmt: skip
    assert histogram(np.ones(1000), every) is None
    outlier = histogram(np.append(values[:-1], 1e9), every)  # in the last bin, not alone on an axis
    assert max(outlier["edges"]) < 1e4 and sum(outlier["series"][0]["counts"]) == 1000


def test_a_class_is_no_number() -> None:
    """Its members are counted, by its name; of one class alone there is nothing to see."""
    half = np.arange(8) < 3
    sets = [("Half set A", half, "blue"), ("Half set B", ~half, "red")]
    classes = np.array([1, 1, 3, 3, 3, 3, 1, 1])
    found = class_counts(classes, sets, {1: "1", 2: "2", 3: "junk"})
    assert found["names"] == ["1", "2", "junk"]
    assert [s["counts"] for s in found["series"]] == [[2, 0, 1], [2, 0, 3]]
    assert "median" not in found["series"][0] and "edges" not in found
    assert class_counts(classes, sets, {})["names"] == ["1", "3"]
    assert class_counts(np.ones(8, int), sets, {}) is None
    assert class_counts(np.arange(8) * 100, sets, {})["names"][-1] == "700"


def test_junk_of_a_run_is_called_so(run: RunFiles) -> None:
    place = run.path / "particles.star"
    file = read_particles(place, need_images=False)
    write_particles(place, file, file.particles, {"rlnClassNumber": 1 + np.arange(400) % 3})
    classes = {"classes": [{"class": 1}, {"class": 2}], "junk": 0.33}
    found = particles(replace(run, summary={**run.summary, **classes}))
    drawn = next(h for h in found.histograms if h["title"] == "Classes")
    assert drawn["names"] == ["1", "2", "junk"]
    assert sum(sum(s["counts"]) for s in drawn["series"]) == 400
    without = particles(replace(run, summary={**run.summary, **classes, "junk": None}))
    assert without.histograms[-1]["names"] == ["1", "2", "3"]
