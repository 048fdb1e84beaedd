"""The verdict: what unseen images prefer, image by image, and one map as strong as each class has it."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.refinement.hetero.verdict import one_shape, resized, verdict


def test_the_gain_is_told_in_standard_errors() -> None:
    draw = torch.Generator().manual_seed(0)
    gain = 1 + 2 * torch.randn(400, generator=draw)
    one = torch.randn(400, 2, generator=draw)
    found = verdict(one + gain[:, None], one, torch.tensor([0.5, 0.5]).log(), torch.arange(400))
    assert found.gain == pytest.approx(float(gain.mean()), abs=1e-5)
    assert found.lead == pytest.approx(float(gain.mean() / gain.std() * 20), rel=1e-4)
    assert found.seen and found.images == 400


def test_rows_of_an_image_are_one_witness() -> None:
    gain = torch.randn(50, 1, generator=torch.Generator().manual_seed(1)) + 0.3
    zero, log_share = torch.zeros(1), torch.zeros(1)
    alone = verdict(gain, zero.expand(50, 1), log_share, torch.arange(50))
    image = torch.arange(50).repeat(4)
    four = verdict(gain.repeat(4, 1), zero.expand(200, 1), log_share, image)
    assert four.images == 50 and four.lead == pytest.approx(alone.lead, rel=1e-6)


def test_a_small_class_is_weighed_by_its_share() -> None:
    classes = torch.tensor([[0.0, 10.0]])
    found = verdict(
        classes.expand(9, 2), torch.zeros(9, 2), torch.tensor([0.9, 0.1]).log(), torch.arange(9)
    )
    assert found.gain == pytest.approx(math.log(0.9 + 0.1 * math.exp(10)), rel=1e-5)


def test_one_map_at_the_strength_of_each_class() -> None:
    draw = torch.Generator().manual_seed(0)
    pooled = torch.randn(16, 16, 16, generator=draw)
    weight = torch.linspace(1, 0.2, 9)
    pooled = filter_shells(pooled, torch.ones(9))
    other = filter_shells(torch.randn(16, 16, 16, generator=draw), torch.ones(9))
    found = one_shape(torch.stack([filter_shells(pooled, weight), other]), pooled)
    torch.testing.assert_close(found[0], filter_shells(pooled, weight), rtol=1e-3, atol=1e-4)
    assert float(found[1].square().sum()) < 0.1 * float(other.square().sum())


def test_one_map_at_the_size_of_each_class() -> None:
    """Micrographs of another magnification show the map larger: no other state."""
    pooled = soft_sphere(32, 8.0, 4.0) - 0.8 * soft_sphere(32, 4.0, 3.0)
    larger = resized(pooled, 1.02)
    at = torch.arange(32) - 16.0
    radius = [float((v.sum((0, 1)) * at**2).sum() / v.sum()) ** 0.5 for v in (pooled, larger)]
    assert radius[1] / radius[0] == pytest.approx(1.02, abs=2e-3)
    found = one_shape(torch.stack([pooled, 0.5 * larger]), pooled)
    # shells end where the corners of the transform begin
    pooled, larger = (filter_shells(one, torch.ones(17)) for one in (pooled, larger))
    torch.testing.assert_close(found[0], pooled, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[1], 0.5 * larger, rtol=1e-3, atol=1e-4)
