"""The table, the rows of directions and the summary of a diagnosis whose numbers are known."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.findings import remark
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.fsc.mask import FscMask
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.orientation.diagnose import Diagnosis
from cryotorch.jobs.orientation.results import conical_csv, table, write_summary
from cryotorch.report.sentences import say

DIRECTIONS = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
CURVES = torch.tensor([[1, 0.9, 0.8, 0.2, 0.0], [1, 0.9, 0.5, 0.0, 0.0], [1, 0.9, 0.9, 0.9, 0.1]])


@pytest.fixture
def found() -> Diagnosis:
    half = torch.zeros(8, 8, 8)
    half[:4] = 1
    return Diagnosis(
        mask=FscMask(half, "generated", 6.0, 12.0), mask_file=None, directions=DIRECTIONS,
        curves=CURVES, band=torch.full((3, 5), 0.1), resolutions=torch.tensor([8.0, 12.0, 6.0]),
        empty=torch.tensor([False, True, False]), fsc=CURVES.mean(0), together=7.0,
        resolution=7.5, ended_by="threshold", cfar=0.625, views=None, slices=None, sampling=None,
        counted=0, reading=remark("directions_untold"), warnings=[], seconds={},
    )  # fmt: skip


def test_the_table_spans_the_directions(found: Diagnosis) -> None:
    spread, claim, score, reading = table(found)
    assert spread.startswith(
        "Resolution by direction: 6.00 Å to 12.00 Å, median 8.00 Å; of all together 7.00 Å"
    )
    assert claim.startswith("Resolution: 7.50 Å (corrected for the mask; corrected FSC = 0.143")
    assert (score, reading) == ("cFAR: 0.62", say(found.reading))
    assert table(replace(found, cfar=None)) == ["cFAR: none", say(found.reading)]
    none = replace(found, ended_by="", resolution=math.nan)
    assert table(none)[0] == "Resolution: none can be claimed"


def test_a_direction_without_a_resolution_is_the_worst(found: Diagnosis) -> None:
    lost = replace(found, resolutions=torch.tensor([8.0, math.nan, 6.0]))
    assert "6.00 Å to no resolution, median 6.00 Å" in table(lost)[0]


def test_a_row_for_each_direction(found: Diagnosis) -> None:
    rows = list(csv.DictReader(conical_csv(found).splitlines()))
    assert [(float(r["rot"]), float(r["tilt"])) for r in rows] == [(0, 0), (0, 90), (90, 90)]
    assert [float(r["resolution"]) for r in rows] == [8, 12, 6]
    assert [int(r["empty"]) for r in rows] == [0, 1, 0]
    curves = np.array([[float(r[f"fsc_{s}"]) for s in range(5)] for r in rows])
    np.testing.assert_allclose(curves, CURVES, atol=1e-5)
    areas = [float(r["area"]) for r in rows]
    assert areas[2] > areas[0] > areas[1] > 0


def test_the_summary_names_the_worst_direction(found: Diagnosis, tmp_path: Path) -> None:
    halves = HalfMaps(torch.zeros(2, 8, 8, 8), 3.0, (Path("a"), Path("b")))
    settings = make_settings("orientation_diagnostics", cone_angle=15)
    write_summary(tmp_path, found, halves, settings, {"more": 2})
    said = json.loads((tmp_path / "summary.json").read_text())
    assert (said["cfar"], said["scf_star"], said["more"]) == (0.625, None, 2)
    assert said["directional_resolution"] == dict(best=6.0, median=8.0, worst=12.0)
    assert said["worst_direction"] == pytest.approx(dict(rot=0.0, tilt=90.0))
    assert said["empty_directions"] == pytest.approx(1 / 3) and said["cone_angle"] == 15
    assert said["unresolved_directions"] == 0 and said["nyquist"] == 6.0
    assert said["mask"]["volume"] == pytest.approx(0.5 * 24**3)
    write_summary(tmp_path, replace(found, cfar=None), halves, settings, {})
    none = json.loads((tmp_path / "summary.json").read_text())
    assert none["directional_resolution"] is none["worst_direction"] is none["resolution"] is None
