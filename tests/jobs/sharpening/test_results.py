"""The names of sharpened maps."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.sharpening.results import file_name, write_summary
from cryotorch.jobs.sharpening.sharpen_maps import sharpen_half_maps
from cryotorch.ops.models.gaussians import gaussian_density


def test_a_map_of_several_is_named_by_its_b_factor() -> None:
    assert file_name(-80.0, alone=True) == "map_sharp.mrc"
    assert file_name(-80.0, alone=False) == "map_sharp_B-80.mrc"


def test_the_summary_lists_the_maps_and_no_file_of_tensors(tmp_path: Path) -> None:
    at, noise = torch.tensor([[-8.0, 0, 0], [9, 3, 0]]), torch.Generator().manual_seed(1)
    ball = gaussian_density(at, torch.ones(2), torch.full((2,), 5.0), 32, 2.0)
    halves = HalfMaps(ball + 0.05 * ball.max() * torch.randn(2, 32, 32, 32, generator=noise), 2.0)
    given = make_settings("sharpen", bfactor=[-50, -80])
    found = sharpen_half_maps(given, halves, torch.device("cpu"))
    write_summary(tmp_path, given, found, halves, {"total": 1.0})
    there = json.loads((tmp_path / "summary.json").read_text())
    assert there["maps"] == ["map_sharp_B-50.mrc", "map_sharp_B-80.mrc"]
    assert there["bfactor"] == [-50.0, -80.0] and there["half_maps"] == []
