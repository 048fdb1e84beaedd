"""The factor by which one map is larger than another."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.relative_size import relative_size

BOX, PIXEL = 40, 4.0


@pytest.mark.parametrize("factor", [0.93, 1.0, 1.05])
def test_the_factor_of_a_map_that_was_magnified_is_found_in_noise(factor: float) -> None:
    generator = torch.Generator().manual_seed(1)
    volume = phantom(BOX, PIXEL, torch.eye(3)[None], 1)
    volume = volume / volume.std()
    larger = resample_volume(volume, factor, BOX, 1.0)
    larger = larger + 0.5 * torch.randn(larger.shape, generator=generator)
    other = low_pass(volume, PIXEL, 10) + 0.2 * torch.randn(volume.shape, generator=generator)
    found = relative_size(larger, other, soft_sphere(BOX, 16, 3), 16)
    assert found.factor == pytest.approx(factor, abs=0.011)
    gain = float((found.best - found.as_is)[1:17].sum() / found.as_is[1:17].sum())
    assert (gain > 0.03) == (factor != 1.0), gain
    assert gain >= 0
