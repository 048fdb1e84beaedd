"""How evenly a set of views samples Fourier space: slices per point of a sphere, and the sampling compensation factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

PAIRS_AT_ONCE = 1 << 22  # points x views at a time
UNSAMPLED = 2.0  # slices that a point without any counts as


def slices_per_point(
    points: Tensor,
    views: Tensor,
    radius: float,
    group: Tensor | None = None,
    advance: Callable[[int], object] = lambda done: None,
) -> Tensor:
    """How many central slices pass each point of a Fourier sphere: (n,) float64.

        s(u) = number of views v and rotations R of the group with |R u . v| radius < 1/2

    A slice is perpendicular to its view and one Fourier pixel thick. Points (n, 3) and views (m, 3) are unit vectors,
    ``radius`` that of the sphere in Fourier pixels; u and -u have the same value. On average a point has m g / (2 radius)
    slices, g rotations in the group (g, 3, 3).

    Args:
        advance: told the views done since the last call, m g in all.

    Raises:
        ValueError: for a radius below 1/2.
    """
    if not radius >= 0.5:
        raise ValueError(f"radius must be at least 1/2 Fourier pixel, got {radius:g}.")
    rotations = torch.eye(3)[None] if group is None else group
    views, count = views.float().T, torch.zeros(len(points), dtype=torch.float64)
    for rotation in rotations.double():
        turned = (points.double() @ rotation.T).float()
        for part in views.split(max(1, PAIRS_AT_ONCE // max(1, len(points))), 1):
            count += ((turned @ part).abs_() < 0.5 / radius).sum(1)
            advance(part.shape[1])
    return count


class Sampling(NamedTuple):
    """Scores of a distribution of views.

    Attributes:
        scf_star: SCF*, 0 to 1.
        unsampled: share of the sphere that no slice reaches; mean: slices per point.
    """

    scf_star: float
    unsampled: float
    mean: float


def sampling_compensation(slices: Tensor) -> Sampling:
    """The sampling compensation factor of slices per point (n,), at evenly spaced points of a sphere.

        1 / SCF  = <s> <1 / s>                                            1 where all points are sampled alike
        1 / SCF* = <s> (sum_{s > 0} 1 / s  +  n0 / 2) / (n - n0)          n0 of n points unsampled

    The harmonic over the arithmetic mean: by this factor uneven sampling lowers the signal-to-noise ratio of a
    reconstruction (Baldwin & Lyumkis 2020, doi:10.1016/j.pbiomolbio.2019.09.002). 1/s is infinite for a point without
    slice; SCF* counts it as one with two slices, and divides by the share of sampled points, which is

        SCF* = SCF' / (1 + n0 / (n - n0) <s> SCF' / 2),      SCF' = 1 / (<s> <1/s>_{s > 0})

    as the authors' programs evaluate it (Baldwin & Lyumkis 2021, doi:10.1016/j.pbiomolbio.2020.06.003); with <s> below 2,
    <s> takes the place of the 2, so that SCF* never exceeds 1. Views all around one axis (side views) have
    8 / pi^2 = 0.81, the usual limit for even enough. Chance alone lowers the factor to about 1 - 1 / <s>: compare equal
    numbers of particles.
    """
    s = slices.double()
    mean, sampled = float(s.mean()), s > 0
    if not mean > 0:  # nothing is sampled, as far as these points tell
        return Sampling(0.0, 1.0, 0.0)
    share = float(sampled.double().mean())
    inverse = float((1 / s[sampled]).sum()) / len(s) + (1 - share) / min(UNSAMPLED, mean)
    return Sampling(share / (mean * inverse), 1 - share, mean)
