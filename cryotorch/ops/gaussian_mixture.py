"""Mixtures of Gaussians in a few dimensions, fitted by expectation maximisation (Dempster 1977, doi:10.1111/j.2517-6161.1977.tb01600.x)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS, CHANGE = 200, 1e-5  # of a fit at most, and of its mean log-likelihood at its end
# No Gaussian becomes narrower than this part of the standard deviation of all points.
NARROWEST = 0.03


@dataclass(frozen=True)
class Gaussians:
    """k Gaussians in d dimensions.

    Attributes:
        weight: (k,); mean: (k, d); covariance: (k, d, d).
        log_likelihood: of the points that they were fitted to, n of them.
        n: number of these points.
    """

    weight: Tensor
    mean: Tensor
    covariance: Tensor
    log_likelihood: float
    n: int

    def log_joint(self, points: Tensor) -> Tensor:
        """log(weight N(point; mean, covariance)), (n, k), of points (n, d)."""
        root = torch.linalg.cholesky(self.covariance)
        white = (points - self.mean[:, None]) @ torch.linalg.inv(root).mT  # (k, n, d)
        log_root = root.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = self.weight.log() - log_root - 0.5 * points.shape[1] * math.log(2 * math.pi)
        return constant - 0.5 * white.square().sum(2).T

    @property
    def criterion(self) -> float:
        """The Bayesian information criterion (Schwarz 1978, doi:10.1214/aos/1176344136): smaller is better."""
        k, d = self.mean.shape
        parameters = k * (d + d * (d + 1) // 2) + k - 1
        return parameters * math.log(self.n) - 2 * self.log_likelihood


def fit_gaussians(points: Tensor, share: Tensor) -> Gaussians:
    """Gaussians fitted to points (n, d), beginning with the ``share`` (n, k) of each point that belongs to each."""
    n = len(points)
    least = NARROWEST**2 * torch.diag(points.var(0).clamp_min(1e-12))
    last = -math.inf
    for _ in range(STEPS):
        count = share.sum(0) + 1e-9
        mean = share.T @ points / count[:, None]
        off = points - mean[:, None]
        covariance = off.mT @ (share.T[..., None] * off) / count[:, None, None]
        found = Gaussians(count / count.sum(), mean, covariance + least, 0.0, n)
        joint = found.log_joint(points)
        total = joint.logsumexp(1)
        share, likelihood = (joint - total[:, None]).exp(), float(total.sum())
        if likelihood - last < CHANGE * n:
            break
        last = likelihood
    return Gaussians(found.weight, found.mean, found.covariance, likelihood, n)
