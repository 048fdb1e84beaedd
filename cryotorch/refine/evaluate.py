"""What half maps are worth: their curves, the masks behind them, the resolution, and the map made for the eye."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.ops.filters import GuinierFit, guinier_fit, sharpen
from cryotorch.ops.fsc import fsc_curves, resolution
from cryotorch.ops.masks import density_mask, soft_mask
from cryotorch.refine.regularise import Maps
from cryotorch.refine.state import Settings

FSC_MASK = dict(threshold=0.5, near=6.0, far=12.0)  # the tight mask: fraction of the density, Å, Å
LOOSER = (
    10.0,
    25.0,
)  # Å around a given tight mask: where the loose one starts to fall, and where it ends


class Evaluation(NamedTuple):
    """Curves (d // 2 + 1,) by name, their resolutions in Å, and the tight mask (d, d, d) behind them.

    ``leading`` names the curve that sets band limit and prior; ``messages`` are for the log.
    """

    curves: dict[str, Tensor]
    resolutions: dict[str, float]
    mask: Tensor
    leading: str
    messages: list[str]


class Sharp(NamedTuple):
    """The map (d, d, d) made for the eye, and the fit of its B-factor."""

    map: Tensor
    fit: GuinierFit


def evaluate(
    half_maps: Tensor, inserted: float, s: Settings, around: Callable[[], Tensor]
) -> Evaluation:
    """Judge unfiltered half maps (2, d, d, d).

    Args:
        inserted: shell that images were inserted up to.
        around: makes the mask (d, d, d) that stands in where the density makes none.
    """
    mean = half_maps.mean(0)
    mask, messages = _fsc_mask(mean, s, around)
    curves = fsc_curves(half_maps, s.pixel_size, mask, loose=_loose_mask(mean, s, around))
    del mean
    curves = {name: _where_inserted(curve, inserted, s) for name, curve in curves.items()}
    resolutions = {
        name: resolution(curve, s.box, s.pixel_size)
        for name, curve in curves.items()
        if name != "randomised"
    }
    return Evaluation(curves, resolutions, mask, _leading_curve(resolutions, s), messages)


def sharpened(maps: Maps, judged: Evaluation, s: Settings) -> Sharp:
    """The regularised map sharpened by the B-factor that is given or fitted."""
    shown = judged.curves["corrected"], s.pixel_size, judged.resolutions["corrected"]
    fit = guinier_fit(maps.even * judged.mask, *shown)
    bfactor = s.bfactor if s.bfactor is not None else (fit.bfactor or 0.0)
    return Sharp(maps.locally(sharpen(maps.even, s.pixel_size, bfactor, *shown[::2])), fit)


def _where_inserted(curve: Tensor, limit: float, s: Settings) -> Tensor:
    """Zero on shells that no image was inserted into: what a mask finds there has leaked from the others, alike in both halves."""
    if limit >= s.box / 2:
        return curve
    shell = torch.arange(len(curve), device=curve.device)
    return torch.where(shell <= limit - 0.5, curve, torch.zeros_like(curve))


def _leading_curve(resolutions: dict[str, float], s: Settings) -> str:
    """The curve that sets band limit and prior: the corrected one once a mask means something, so that it cannot feed itself."""
    return "corrected" if resolutions["corrected"] < s.mask.start else "spherical"


def _fsc_mask(
    volume: Tensor, s: Settings, around: Callable[[], Tensor]
) -> tuple[Tensor, list[str]]:
    """The tight mask of the FSC curves: the given one, else around the density; a soft sphere where that makes none."""
    if s.mask.judge is not None:
        return s.mask.judge.to(volume.device), []
    try:
        return density_mask(volume, s.pixel_size, low_pass=12.0, **FSC_MASK), []
    except ValueError as refused:
        return around(), [f"The FSC mask is a soft sphere: {refused}"]


def _loose_mask(volume: Tensor, s: Settings, around: Callable[[], Tensor]) -> Tensor:
    if s.mask.judge is not None:
        near_it = s.mask.judge.to(volume.device) > 0.5
        return soft_mask(near_it, *(length / s.pixel_size for length in LOOSER))
    try:
        return density_mask(volume, s.pixel_size, 0.5, near=25.0, far=40.0, low_pass=20.0)
    except ValueError:
        return around()
