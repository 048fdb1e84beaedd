"""What is said of a local resolution: its numbers, where it has none, and the warnings beside it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cryotorch.findings import codes
from cryotorch.jobs.fsc.claim import claim
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.resolution_map.measure import LocalMap, measure
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import soft_sphere

PX = 2.0


@pytest.fixture
def ramp() -> LocalMap:
    """3 to 8 Å, evenly, in the half of the box that is inside."""
    inside = torch.zeros(10, 10, 10, dtype=torch.bool)
    inside[5:] = True
    values = torch.full((10, 10, 10), 25.0)
    values[5:] = torch.linspace(3, 8, 500).view(5, 10, 10)
    return LocalMap(torch.where(inside, values, 0), values, inside, 0.5, 3.0, 25.0)


def test_percentiles_are_taken_inside_the_mask(ramp: LocalMap) -> None:
    assert ramp.percentiles == pytest.approx(
        {"5": 3.25, "25": 4.25, "50": 5.5, "75": 6.75, "95": 7.75}, abs=0.02
    )
    assert ramp.numbers["median"] == ramp.percentiles["50"] and ramp.numbers["voxels"] == 500
    assert ramp.part_at_finest == 1 / 500 and ramp.part_at_coarsest == 0 == ramp.part_not_said
    assert ramp.findings(None) == []


def test_voxels_without_a_value_count_as_coarser_than_any(ramp: LocalMap) -> None:
    said = torch.where(ramp.resolution > 6, 0.0, ramp.resolution)  # the coarser 40 %
    part = replace(ramp, resolution=said)
    assert part.percentiles["50"] == ramp.percentiles["50"]
    assert math.isnan(part.percentiles["75"]) and math.isnan(part.percentiles["95"])
    assert part.part_not_said == pytest.approx(0.4, abs=0.01)
    (warning,) = part.findings(6.0)
    assert warning.code == "local_not_said" and warning["shared"] == 6.0 and warning.serious


def test_ends_of_the_scale_and_a_low_threshold_are_told(ramp: LocalMap) -> None:
    ends = replace(ramp, finest=4.0, coarsest=7.0, threshold=0.143)
    found = ends.remarks()
    assert codes(found) == ["local_at_finest", "local_at_coarsest"] and not found[0].serious
    assert found[0]["part"] == pytest.approx(0.2, abs=0.01) == found[1]["part"]
    assert codes(ends.findings(None)) == ["local_threshold_low"] and ramp.remarks() == []


def test_nothing_finer_than_the_claim_and_nothing_that_was_shared() -> None:
    """A texture to 6 Å in noise: with a claim of 9 Å it is 9 Å everywhere, with shells to 5 Å shared there is no value."""
    draw = torch.Generator().manual_seed(0)
    ball = soft_sphere(48, 18, 3)
    maps = low_pass(torch.randn(48, 48, 48, generator=draw), PX, 6.0) * ball
    maps = maps + 0.2 * torch.randn(2, 48, 48, 48, generator=draw)
    known = claim(HalfMaps(maps, PX), torch.device("cpu"), None, False, (0.3, 6.0, 12.0), 0)
    known = known._replace(made=replace(known.made, mask=ball))
    assert known.claims and known.resolution < 6
    free = measure(known, PX, 0.5, 0)
    assert float(free.resolution[ball > 0.9].median()) == pytest.approx(
        6 / 24 ** (1 / 16), rel=0.05
    )
    assert torch.equal(free.stated, ball > 0.5) and float(free.cutoff.min()) > 0
    coarse = known._replace(resolutions=known.resolutions | {"corrected": 9.0})
    assert measure(coarse, PX, 0.5, 0).resolution[ball > 0.5].unique().numpy() == pytest.approx(9)
    shared = measure(known, PX, 0.5, 48 * PX / 4.2)
    assert shared.part_not_said > 0.95
    assert torch.equal(shared.cutoff, free.cutoff)
