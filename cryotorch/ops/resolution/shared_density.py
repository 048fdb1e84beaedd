"""What two half maps have in common in real space, and a mask that holds it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import density_mask, soft_sphere

WEAK = 24.0  # Å: half maps that agree to half only up to here say little about where density ends
THRESHOLDS = (0.5, 0.4, 0.3, 0.2)  # fractions of the density, tried in turn
MAX_LEFT_OUT = 0.05  # of the shared density that a mask made here may leave out


def shared_density(maps: Tensor, pixel_size: float, coarse: float) -> Tensor:
    """The density (d, d, d) float32 shared by half maps a, b (2, d, d, d): a b over a + b > 0 in the sphere that fits into the box.

    Both low-passed at ``coarse`` or 12 Å, where they agree. For noise a b averages to zero, also where a + b > 0.
    """
    box = maps.shape[-1]
    a, b = low_pass(maps, pixel_size, max(12.0, coarse, 2 * pixel_size))
    inside = soft_sphere(box, box / 2, 0, maps.device)
    return torch.where(a + b > 0, a * b * inside, 0.0)


def left_out(shared: Tensor, mask: Tensor) -> float:
    """The part of a ``shared_density`` s (d, d, d) that a mask m (d, d, d) does not hold: sum (1 - m) s / sum s."""
    sums = [part.sum(dtype=torch.float64) for part in (shared, (1 - mask) * shared)]
    total, outside = torch.stack(sums).tolist()
    return outside / total if total > 0 else 0.0


def holding_mask(
    maps: Tensor,
    pixel_size: float,
    coarse: float,
    near: float,
    far: float,
    cut: float,
    thresholds: Sequence[float] = THRESHOLDS,
) -> tuple[Tensor, float]:
    """The tightest mask (d, d, d) around the mean of half maps (2, d, d, d) that holds what they share, and its threshold.

    1 within ``near`` Å of density above a threshold in the mean low-passed at ``cut`` Å, 0 beyond ``far`` Å. The highest threshold
    counts that leaves out at most 5 % of the ``shared_density``, else the one that leaves out least. With half maps that agree to
    half up to ``coarse`` Å only, where that is coarser than 24 Å, the first. ValueError where the density makes none.
    """
    mean = maps.mean(0)
    first = density_mask(mean, pixel_size, thresholds[0], near, far, cut)
    if coarse > WEAK:
        return first, thresholds[0]
    shared = shared_density(maps, pixel_size, coarse)
    best, chosen, least = first, thresholds[0], left_out(shared, first)
    for threshold in thresholds[1:]:
        if least <= MAX_LEFT_OUT:
            break
        mask = density_mask(mean, pixel_size, threshold, near, far, cut)
        missing = left_out(shared, mask)
        if missing < least:
            best, chosen, least = mask, threshold, missing
    return best, chosen
