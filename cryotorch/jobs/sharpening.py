"""The steps of sharpening: mask and curves, the Guinier fit, one map per B-factor, the local low-pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.jobs.maps import HalfMaps, load_mask
from cryotorch.jobs.settings import require
from cryotorch.ops.filters import GuinierFit, guinier_fit, sharpen
from cryotorch.ops.fsc import crossing_shell, fsc_curves, resolution
from cryotorch.ops.local_resolution import local_low_pass, local_resolution
from cryotorch.ops.masks import density_mask, soft_sphere

if TYPE_CHECKING:
    from cryotorch.jobs.sharpen import Sharpen

log = logging.getLogger("cryotorch")
LOW_PASS = 12.0  # Å: noise in an unfiltered mean would fray the mask
SPHERE = 0.95  # of half the box, where the soft sphere begins to fall


@dataclass
class Sharpened:
    """What sharpening finds; tensors on the CPU.

    Attributes:
        mean: (d, d, d) of the half maps; mask: behind FSC and fit.
        mask_kind: ``given``, ``run folder`` or ``generated``.
        curves: name -> (d//2 + 1,); resolutions: name -> Å.
        resolution: Å, corrected FSC.
        fit: the Guinier fit of ``guinier_map``; other: its B-factor with the other choice, or None.
        filter_resolution: Å, of the Butterworth filter.
        maps: B-factor -> (d, d, d).
        local: (d, d, d) Å, or None.
        warnings: sentences.
    """

    mean: Tensor
    mask: Tensor
    mask_kind: str
    curves: dict[str, Tensor]
    resolutions: dict[str, float]
    resolution: float
    fit: GuinierFit
    other: float | None
    filter_resolution: float
    maps: dict[float, Tensor] = field(default_factory=dict)
    local: Tensor | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def local_range(self) -> dict[str, float] | None:
        """Å within the mask: the median and where 5 and 95 % of the voxels are reached."""
        if self.local is None:
            return None
        inside = self.local[self.mask > 0.5 * self.mask.max()].numpy()
        finest, median, coarsest = np.percentile(inside, (5, 50, 95)).tolist()
        return {"median": median, "finest": finest, "coarsest": coarsest}


def sharpen_half_maps(settings: Sharpen, halves: HalfMaps, device: torch.device) -> Sharpened:
    """Everything but reading and writing; lengths in ``settings`` in Å.

    Raises:
        InputError: the mask or a filter of the settings does not fit the half maps.
    """
    pixel_size, box = halves.pixel_size, halves.maps.shape[-1]
    maps = halves.maps.to(device)
    mean = maps.mean(0)
    mask, kind, warnings = _mask(settings, halves, mean)
    curves = fsc_curves(maps, pixel_size, mask, mask, torch.Generator().manual_seed(settings.seed))
    del curves["loose"]  # nobody asked for one
    resolutions = {
        name: resolution(curve, box, pixel_size)
        for name, curve in curves.items()
        if name != "randomised"
    }
    reached, curve = resolutions["corrected"], curves["corrected"]
    log.info("Resolution %.2f Å (corrected FSC at 0.143; without mask %.2f Å)",
             reached, resolutions["no_mask"])  # fmt: skip
    fits = {
        name: guinier_fit(m, curve, pixel_size, settings.fit_to or reached, settings.fit_from)
        for name, m in (("masked", mean * mask), ("whole", mean))
    }
    fit = fits.pop(settings.guinier_map)
    (other,) = fits.values()
    if fit.bfactor is not None:
        log.info("Guinier fit of the %s map: B = %.1f Å²", settings.guinier_map, fit.bfactor)
    if other.bfactor is not None:
        # both are said: programs differ, and with little solvent left in the mask they agree
        name = "whole" if settings.guinier_map == "masked" else "masked"
        log.info("For comparison, of the %s map: %.1f Å²", name, other.bfactor)
    bfactors, said = _bfactors(settings, fit)
    cut, also = _filter_resolution(settings, curve, box, pixel_size)
    found = Sharpened(
        *(
            mean.cpu(),
            mask.cpu(),
            kind,
            {n: c.cpu() for n, c in curves.items()},
            resolutions,
            reached,
        ),
        *(_on_cpu(fit), other.bfactor, cut),
        warnings=[*warnings, *said, *also],
    )
    local = None
    if settings.local:
        log.info("Local resolution, local FSC = %g", settings.local_threshold)
        local = local_resolution(maps, pixel_size, mask, settings.local_threshold)
        found.local = local.cpu()
        log.info("Within the mask it is %(median).1f Å in the median, 5 to 95 %%: "
                 "%(finest).1f to %(coarsest).1f Å", found.local_range)  # fmt: skip
    sphere = soft_sphere(box, SPHERE * box / 2, (1 - SPHERE) * box / 2, device)
    weight = curve if settings.fsc_weight else None
    for bfactor in bfactors:
        sharp = sharpen(mean, pixel_size, bfactor, weight, cut, settings.filter_order)
        if local is not None:
            sharp = local_low_pass(sharp, pixel_size, local)
        if settings.apply_mask:
            sharp = sharp * mask
        if settings.spherical_mask:
            sharp = sharp * sphere
        if not bool(sharp.isfinite().all()):
            wish = "it makes numbers that are too large for a map, use one nearer to 0"
            require(False, "bfactor", f"{bfactor:g}", wish)
        found.maps[bfactor] = sharp.cpu()
    return found


def _on_cpu(fit: GuinierFit) -> GuinierFit:
    return GuinierFit(*(v.cpu() if isinstance(v, Tensor) else v for v in fit))


def _mask(settings: Sharpen, halves: HalfMaps, mean: Tensor) -> tuple[Tensor, str, list[str]]:
    """The mask given, that of the run folder, or one made of the density; its origin; warnings."""
    beside = None if halves.folder is None else halves.folder / "mask_fsc.mrc"
    path = settings.mask or (str(beside) if beside is not None and beside.is_file() else None)
    if path is not None:
        log.info("Mask %s", path)
        trusted = settings.pixel_size is not None
        size = halves.pixel_size
        mask, warnings = load_mask(path, len(mean), size, any_pixel_size=trusted)
        return mask.to(mean.device), "given" if settings.mask else "run folder", warnings
    near, far = settings.mask_near, settings.mask_far
    log.info("Making a mask around density above %g of the map's high density, 1 within %g Å and "
             "0 beyond %g Å", settings.threshold, near, far)  # fmt: skip
    try:
        mask = density_mask(mean, halves.pixel_size, settings.threshold, near, far, LOW_PASS)
    except ValueError as refused:
        raise InputError(f"{refused} Give mask=<file> or another threshold.") from None
    return mask, "generated", []


def _bfactors(settings: Sharpen, fit: GuinierFit) -> tuple[list[float], list[str]]:
    """The B-factors to apply, and what is to be said about them."""
    given = settings.bfactor
    if given is not None:
        return given if isinstance(given, list) else [given], []
    if fit.bfactor is None:
        return [0.0], [
            f"The Guinier fit was refused, {fit.reason}: the map is weighted and filtered but not sharpened, give "
            "bfactor=<Å²> to sharpen it"
        ]
    if fit.bfactor > 0:
        return [fit.bfactor], [
            f"The fitted B-factor of {fit.bfactor:.0f} Å² is positive and blurs the map: were the half maps sharpened "
            "before? Give unsharpened ones, or bfactor=0"
        ]
    return [fit.bfactor], []


def _filter_resolution(
    settings: Sharpen, curve: Tensor, box: int, pixel_size: float
) -> tuple[float, list[str]]:
    """Resolution of the Butterworth filter in Å, and what is to be said about it."""
    reached, wanted = crossing_shell(curve), settings.filter_resolution
    shell = (reached if wanted is None else box * pixel_size / wanted) + settings.filter_offset
    wish = f"only {shell - settings.filter_offset:.0f} shells lie before the resolution"
    require(shell >= 1, "filter_offset", settings.filter_offset, wish)
    said = []
    # beyond that nothing passes the weight
    if settings.fsc_weight and wanted is not None and shell > reached + 2:
        said.append(
            f"filter_resolution={wanted:g} is finer than the {box * pixel_size / reached:.2f} Å of the half maps: what "
            "lies beyond is weak, as fsc_weight=true weighs it, and mostly noise"
        )
    return box * pixel_size / shell, said
