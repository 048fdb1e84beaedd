"""What half maps share, and how much of it a mask leaves out."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.masks.soft import density_mask, soft_sphere
from cryotorch.ops.models.gaussians import gaussian_density
from cryotorch.ops.resolution.shared_density import (
    THRESHOLDS,
    holding_mask,
    left_out,
    shared_density,
)

BOX, PIXEL = 40, 3.0


def blobs(*weights: float, sigma: float = 7.0) -> torch.Tensor:
    """Gaussian densities at x = -21, 21 and 0 Å."""
    at = torch.tensor([[-21.0, 0, 0], [21, 0, 0], [0, 0, 0]])[: len(weights)]
    return gaussian_density(
        at, torch.tensor(weights), torch.full((len(weights),), sigma), BOX, PIXEL
    )


def noise(level: float, seed: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return level * torch.randn(2, BOX, BOX, BOX, generator=draw)


def test_only_positive_density_of_both_counts() -> None:
    """a b where a + b > 0: half maps that are one give the square of what is positive, opposite ones nothing."""
    one = blobs(1.0, -1.0)
    shared = shared_density(torch.stack([one, one]), PIXEL, 12.0)
    positive = blobs(1.0)
    smooth = shared_density(torch.stack([positive, positive]), PIXEL, 12.0)
    assert float((shared - smooth).abs().max()) < 0.02 * float(smooth.max())
    assert shared_density(torch.stack([one, -one]), PIXEL, 12.0).abs().max() == 0
    only_a = torch.stack([positive, 0 * positive])
    assert float(shared_density(only_a, PIXEL, 12.0).abs().max()) < 1e-6 * float(smooth.max())


def test_noise_shares_nothing_on_average() -> None:
    shared = shared_density(noise(1.0), PIXEL, 12.0)
    assert abs(float(shared.sum())) < 0.1 * float(shared.abs().sum())


def test_corners_of_the_box_are_left_out() -> None:
    flat = torch.ones(2, BOX, BOX, BOX)
    shared = shared_density(flat, PIXEL, 12.0)
    assert torch.equal(shared > 0.5, soft_sphere(BOX, BOX / 2, 0) > 0.5)


def test_the_part_that_a_mask_does_not_hold() -> None:
    shared = torch.zeros(8, 8, 8)
    shared[4, 4, 2], shared[4, 4, 6] = 3.0, 1.0
    mask = torch.ones(8, 8, 8)
    assert left_out(shared, mask) == 0
    mask[4, 4, 6] = 0.5
    assert left_out(shared, mask) == pytest.approx(0.125)
    mask[4, 4, 2:7] = 0
    assert left_out(shared, mask) == 1
    assert left_out(-shared, mask) == left_out(0 * shared, mask) == 0


@pytest.mark.parametrize(("weak", "threshold"), [(0.0, 0.5), (0.45, 0.4), (0.35, 0.2)])
def test_the_threshold_falls_until_a_weaker_part_is_held(weak: float, threshold: float) -> None:
    maps = blobs(1.0, weak) + noise(0.0)
    _, chosen = holding_mask(maps, PIXEL, 12.0, 6.0, 12.0, 12.0)
    assert chosen == threshold
    shared = shared_density(maps, PIXEL, 12.0)
    for tried in THRESHOLDS[: THRESHOLDS.index(chosen) + 1]:
        mask = density_mask(maps.mean(0), PIXEL, tried, 6.0, 12.0, 12.0)
        assert (left_out(shared, mask) <= 0.05) == (tried == chosen)


def test_half_maps_that_agree_to_little_get_the_first_threshold() -> None:
    """Where they are one up to 25 Å only they say little about where density ends."""
    maps = blobs(1.0, 0.35) + noise(0.0)
    assert holding_mask(maps, PIXEL, 25.0, 6.0, 12.0, 12.0)[1] == 0.5
    assert holding_mask(maps, PIXEL, 23.0, 6.0, 12.0, 12.0)[1] < 0.5


def test_no_density_no_mask() -> None:
    with pytest.raises(ValueError, match="density"):
        holding_mask(-torch.ones(2, BOX, BOX, BOX), PIXEL, 12.0, 6.0, 12.0, 12.0)
