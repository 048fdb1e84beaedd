"""The sharpened map of two half maps: one recipe for all jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.fourier.filters import guinier_fit, sharpen
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.results import Guinier

SPHERE = 0.95  # of half the box, where the soft sphere begins to fall
FIT_FROM = 10.0  # Å
ORDER = 8
FEW_SHELLS = 10  # shells: a line through fewer is led by what the structure does there
SURE = 2.0  # standard errors that a B-factor is from zero, where the fit determines one
STEEP = -1000.0  # Å²: B-factors beyond it make noise of a map


class Sharp(NamedTuple):
    """The sharpened map (d, d, d), and the fit with the B-factor that was applied."""

    map: Tensor
    fit: Guinier


def sharpened(
    half_maps: Tensor,
    pixel_size: float,
    mask: Tensor,
    curve: Tensor,
    resolution: float,
    bfactor: float | None = None,
    claims: bool = True,
) -> Sharp:
    """The mean of unfiltered half maps (2, d, d, d), weighted once by their FSC (d//2 + 1,), sharpened and low-passed.

    The B-factor, Å², is the given one, exactly, else that of the ``guinier_fit`` of the mean under the mask (d, d, d) that the
    curve was made with, else 0. Nothing is fitted where nothing can be claimed.
    """
    mean = half_maps.mean(0)
    fit = guinier_fit(mean * mask, curve, pixel_size, resolution, FIT_FROM)
    if not claims:
        fit = refused(fit)
    applied = (fit.bfactor or 0.0) if bfactor is None else bfactor
    sharp = sharpen(mean, pixel_size, applied, curve, resolution, ORDER)
    return Sharp(sharp.mul_(inner_sphere(mean)), replace(fit, applied=applied))


def fit_doubts(fit: Guinier) -> list[Finding]:
    """Reasons not to trust the B-factor of a fit, whose own error knows nothing of them."""
    doubts, shells = [], int(fit.used.sum())
    if shells < FEW_SHELLS:
        coarse, fine = fit.inverse_d2[fit.used].rsqrt()[[0, -1]].tolist()
        doubts.append(Finding("few_shells", shells=shells, coarse=coarse, fine=fine))
    if fit.bfactor is not None and fit.error is not None and abs(fit.bfactor) < SURE * fit.error:
        doubts.append(Finding("undetermined"))
    if fit.bfactor is not None and fit.bfactor < STEEP:
        doubts.append(Finding("steep", limit=STEEP))
    return doubts


def refused(fit: Guinier) -> Guinier:
    """The same where nothing can be claimed: a B-factor would be one of noise."""
    return replace(fit, bfactor=None, error=None, reason=Finding("nothing_claimed"))


def inner_sphere(like: Tensor) -> Tensor:
    """The soft sphere that fits into the box of a map (d, d, d): its corners hold nothing but sharpened noise."""
    box = len(like)
    return soft_sphere(box, SPHERE * box / 2, (1 - SPHERE) * box / 2, like.device)
