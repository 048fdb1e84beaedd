"""Sums of a smaller box: the same map, Fourier-cropped."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier.coarse import coarse_sums
from cryotorch.ops.fourier.reconstruct import Sums, solve
from cryotorch.ops.fourier.transforms import fft_volume, resize_volume, volume_shells
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.fsc import shell_correlation


@pytest.mark.parametrize("padding", [1, 2])
def test_coarse_sums_make_the_cropped_map(padding: int) -> None:
    volume = phantom(24, 4.0, point_group("C1"))
    size = 24 * padding
    padded = torch.zeros(size, size, size)
    start = size // 2 - 12
    padded[(slice(start, start + 24),) * 3] = volume
    transform = fft_volume(padded) / 24
    sums = Sums(transform, torch.ones(transform.shape), 24, padding, 12)
    small = coarse_sums(sums, 16)
    assert small.numerator.shape == (16 * padding, 16 * padding, 8 * padding + 1)
    assert torch.equal(small.shells(), volume_shells(16)) or padding == 2
    nothing = torch.zeros(9)
    whole = resize_volume(solve(sums, torch.zeros(13)), 16)
    assert shell_correlation(solve(small, nothing), whole)[:7].min() > 0.99
    # a copy also where nothing is cut off, as the sums may be symmetrised in place
    same = coarse_sums(sums, 32)
    assert torch.equal(same.numerator, sums.numerator)
    assert same.numerator.data_ptr() != sums.numerator.data_ptr()
