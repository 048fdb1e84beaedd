"""One claim for all jobs: of a phantom there is one, of noise none, and the mask is the one given or one that is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch

from cryotorch.data.mrc import write_volume
from cryotorch.findings import codes
from cryotorch.jobs.fsc.claim import Claim, claim
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.ops.masks.soft import soft_sphere

PX, SHAPE = 3.0, (0.3, 6.0, 20.0)


def of(maps: torch.Tensor, mask: str | None = None) -> Claim:
    return claim(HalfMaps(maps, PX), torch.device("cpu"), mask, False, SHAPE, 0)


def test_a_phantom_under_a_mask_that_is_made(halves: Callable) -> None:
    found = of(halves(0.5))
    assert found.claims and found.made.kind == "generated" and found.mask_file is None
    assert found.resolution == found.judged.resolution == found.resolutions["corrected"] < 8
    assert torch.equal(found.mean, found.maps.mean(0))


def test_noise_under_a_given_mask(noise: Callable, tmp_path: Path) -> None:
    path = str(tmp_path / "mask.mrc")
    write_volume(path, soft_sphere(48, 14, 5), PX)
    found = of(noise(48, 3), path)
    assert not found.claims and math.isnan(found.resolution)
    assert found.mask_file == path and found.made.kind == "given"
    assert codes(found.warnings)[-1] == "nothing_shared"
