"""What stands beside the stack of templates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.data.star import read_star
from cryotorch.findings import Finding
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.picking.results import write_star_file, write_summary
from cryotorch.jobs.picking.templates import Measured, Templates

VIEWS = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])


@pytest.fixture
def made() -> Templates:
    settings = make_settings("create_templates", symmetry="C1", low_pass=20, diameter=150)
    rest = (1, VIEWS, 40.0, 35.0, 48, 4.0)
    return Templates(settings, Path("m.mrc"), torch.zeros(48, 48, 48), 4.0, *rest)


def test_references_and_particles_in_one_table(made: Templates, tmp_path: Path) -> None:
    write_star_file(tmp_path, made)
    tables = read_star(tmp_path / "templates.star")
    assert list(tables) == ["particles", "optics"]  # relion_autopick reads the first
    images = tables["particles"]
    assert next(iter(images)) == "rlnReferenceImage"
    assert images["rlnReferenceImage"].tolist() == images["rlnImageName"].tolist()
    assert images["rlnImageName"].tolist()[2].endswith("3@templates.mrcs")
    assert images.floats("rlnAngleRot").tolist() == pytest.approx([0, 0, -90])
    assert images.floats("rlnAngleTilt").tolist() == pytest.approx([0, 90, 90])
    for label in ("rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"):
        assert not np.any(images.floats(label))
    # a CTF of 1 everywhere
    optics = tables["optics"]
    lens = ("rlnSphericalAberration", "rlnAmplitudeContrast", "rlnImagePixelSize")
    assert [optics.floats(label).tolist() for label in lens] == [[0.0], [1.0], [4.0]]
    assert not np.any(images.floats("rlnDefocusU"))


def test_the_summary(made: Templates, tmp_path: Path) -> None:
    cut = Finding("templates_cut", parameter="diameter", size=150, part=0.2)
    found = Measured(torch.zeros(3, 48, 48), 2.0, 0.25, [cut])
    write_summary(tmp_path / "summary.json", made, found, 1.23456)
    said = json.loads((tmp_path / "summary.json").read_text())
    assert (said["templates"], said["box"], said["pixel_size"]) == (3, 48, 4.0)
    assert (said["largest_gap_deg"], said["ideal_gap_deg"]) == (40.0, 35.0)
    assert said["grey_standard_deviation"] == 0.25 and said["seconds"]["total"] == 1.235
    assert np.allclose(said["angles_deg"], [[0, 0], [0, 90], [-90, 90]])
    assert "diameter=150 cuts" in said["warnings"][0] and said["findings"][0]["part"] == 0.2
