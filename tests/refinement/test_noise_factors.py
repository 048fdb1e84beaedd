"""Noise of optics groups, by what is left of their images."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.noise_factors import noise_factors, noise_power, with_noise


def test_noise_of_groups_is_told_apart() -> None:
    m = half_plane(24).count(6.0)
    flat = torch.ones(100, m)
    images = Observation(flat.to(torch.complex64), flat, flat, 24)
    residual = torch.ones(100, m)
    residual[50:] = 4.0
    group = torch.arange(100) // 50
    count = torch.bincount(group, minlength=3)
    factor = noise_factors(noise_power(images, residual, group, 3), count, 24)
    torch.testing.assert_close(factor[0, 1:6], torch.ones(5))
    torch.testing.assert_close(factor[1, 1:6], torch.full((5,), 4.0))
    torch.testing.assert_close(factor[2], torch.ones(13))
    changed = with_noise(images, factor, group)
    ratio = images.precision / changed.precision
    assert float(ratio[:50].max()) == pytest.approx(1) and float(ratio[50:, 0].min()) == 4.0
