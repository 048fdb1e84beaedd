"""The steps of sharpening: mask and curves, the Guinier fit, one map per B-factor, the local low-pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.fsc.claim import claim
from cryotorch.jobs.fsc.mask import FscMask
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.resolution_map.measure import LocalMap, measure
from cryotorch.ops.fourier.filters import guinier_fit, sharpen
from cryotorch.ops.resolution.local_resolution import local_low_pass
from cryotorch.ops.resolution.sharpening import FEW_SHELLS, fit_doubts, inner_sphere, refused
from cryotorch.results import Guinier

if TYPE_CHECKING:
    from cryotorch.jobs.sharpening.settings import Sharpen

log = logging.getLogger("cryotorch")
MAX_FIT_RATIO = 2.0  # ratio of the fits of masked and whole map that is no matter of choice
WIDER_FIT = 15.0  # Å: where to begin the fit when too few shells are left


@dataclass
class Sharpened:
    """What sharpening finds; tensors on the CPU.

    Attributes:
        mean: (d, d, d) of the half maps; mask: (d, d, d) behind FSC and fit.
        made: that mask and how it came about; mask_file: where it was read, or None.
        curves: name -> (d//2 + 1,); band: (d//2 + 1,) FSC that noise in the mask stays below; resolutions: name -> Å.
        resolution: Å that may be claimed, NaN where nothing can be; onset: first shell with random phases.
        fit: the Guinier fit of ``guinier_map``; other: its B-factor with the other choice, or None.
        filter_resolution: Å, of the Butterworth filter.
        maps: B-factor -> (d, d, d).
        local: the local resolution, or None.
        warnings: what is wrong with half maps, mask, curves and fit; ended_by: what ends the resolution, "" where there is none.
    """

    mean: Tensor
    mask: Tensor
    made: FscMask
    mask_file: str | None
    curves: dict[str, Tensor]
    band: Tensor
    resolutions: dict[str, float]
    resolution: float
    onset: int
    fit: Guinier
    other: float | None
    filter_resolution: float
    maps: dict[float, Tensor] = field(default_factory=dict)
    local: LocalMap | None = None
    warnings: list[Finding] = field(default_factory=list)
    ended_by: str = ""


def sharpen_half_maps(settings: Sharpen, halves: HalfMaps, device: torch.device) -> Sharpened:
    """Everything but reading and writing; lengths in ``settings`` in Å.

    Raises:
        InputError: the mask or a filter of the settings does not fit the half maps.
    """
    pixel_size, box = halves.pixel_size, halves.maps.shape[-1]
    shape = settings.threshold, settings.mask_near, settings.mask_far
    trusted = settings.pixel_size is not None
    known = claim(halves, device, settings.mask, trusted, shape, settings.seed)
    judged, mean, mask = known.judged, known.mean, known.made.mask
    curves, curve = judged.curves, judged.curves["corrected"]
    reached = box * pixel_size / judged.last
    fits = {
        name: guinier_fit(m, curve, pixel_size, settings.fit_to or reached, settings.fit_from)
        for name, m in (("masked", mean * mask), ("whole", mean))
    }
    if not known.claims:
        fits = {name: refused(fit) for name, fit in fits.items()}
    fit = fits.pop(settings.guinier_map)
    (other,) = fits.values()
    if fit.bfactor is not None:
        about = settings.guinier_map, fit.bfactor, fit.error
        log.info("Guinier fit of the %s map: B = %.1f ± %.1f Å²", *about)
    if other.bfactor is not None:
        # both are said: programs differ, and with little solvent left in the mask they agree
        name = "whole" if settings.guinier_map == "masked" else "masked"
        log.info("For comparison, of the %s map: %.1f Å²", name, other.bfactor)
    bfactors, said = _bfactors(settings, fit, other, box * pixel_size)
    how = "given" if settings.bfactor is not None else "fitted"
    how = how if fit.bfactor is not None or how == "given" else "no fit"
    log.info("Applied: B = %s Å² (%s)", ", ".join(f"{b:.4g}" for b in bfactors), how)
    cut, also = _filter_resolution(settings, judged.last, box, pixel_size)
    found = Sharpened(
        mean.cpu(),
        mask.cpu(),
        known.made,
        known.mask_file,
        {n: c.cpu() for n, c in curves.items()},
        judged.band.cpu(),
        known.resolutions,
        known.resolution,
        judged.onset,
        fit.cpu(),
        other.bfactor,
        cut,
        warnings=[*known.warnings, *said, *also],
        ended_by=known.ended_by,
    )
    local = None
    if settings.local and not known.claims:
        found.warnings.append(Finding("no_local_resolution"))
    elif settings.local:
        shared = halves.known.shared
        local = measure(known, pixel_size, settings.local_threshold, shared)
        found.local = local.cpu()
        found.warnings += local.findings(box * pixel_size / shared if shared else None)
    sphere = inner_sphere(mean)
    weight = curve if settings.fsc_weight else None
    for bfactor in bfactors:
        sharp = sharpen(mean, pixel_size, bfactor, weight, cut, settings.filter_order)
        if local is not None:
            sharp = local_low_pass(sharp, pixel_size, local.cutoff)
        if settings.apply_mask:
            sharp = sharp * mask
        if settings.spherical_mask:
            sharp = sharp * sphere
        if not bool(sharp.isfinite().all()):
            requirement = "it makes numbers that are too large for a map, use one nearer to 0"
            require(False, "bfactor", f"{bfactor:g}", requirement)
        found.maps[bfactor] = sharp.cpu()
    return found


def _bfactors(
    settings: Sharpen, fit: Guinier, other: Guinier, edge: float
) -> tuple[list[float], list[Finding]]:
    """The B-factors to apply in a box of ``edge`` Å, and what is wrong with them."""
    given = settings.bfactor
    if given is not None:
        return given if isinstance(given, list) else [given], []
    wider = _wider_fit(settings, fit, edge)
    if fit.bfactor is None:
        return [0.0], [Finding("fit_refused", reason=fit.reason, wider=wider)]
    if fit.bfactor > 0:
        return [fit.bfactor], [Finding("bfactor_positive", bfactor=fit.bfactor)]
    doubts = tuple(_doubts(settings, fit, other))
    if not doubts:
        return [fit.bfactor], []
    fitted = dict(bfactor=fit.bfactor, error=fit.error)
    uncertain = Finding("bfactor_uncertain", **fitted, doubts=doubts, wider=wider)
    return [fit.bfactor], [uncertain]


def _doubts(settings: Sharpen, fit: Guinier, other: Guinier) -> list[Finding]:
    """Reasons not to trust a fit."""
    doubts = fit_doubts(fit)
    if (
        other.bfactor is not None
        and not 1 / MAX_FIT_RATIO < other.bfactor / fit.bfactor < MAX_FIT_RATIO
    ):
        name = "whole" if settings.guinier_map == "masked" else "masked"
        doubts.append(Finding("other_bfactor", map=name, bfactor=other.bfactor))
    return doubts


def _wider_fit(settings: Sharpen, fit: Guinier, edge: float) -> float | None:
    """Å from which on a fit that begins too late has shells enough, where there is such a one."""
    if settings.fit_from >= WIDER_FIT or int(fit.used.sum()) >= FEW_SHELLS:
        return None
    with_signal = fit.log_amplitude.isfinite()
    shell = torch.arange(len(with_signal), device=with_signal.device)
    last = int(shell[fit.used].max()) if fit.used.any() else 0
    return WIDER_FIT if last - edge / WIDER_FIT >= 4 else None


def _filter_resolution(
    settings: Sharpen, reached: int, box: int, pixel_size: float
) -> tuple[float, list[Finding]]:
    """Resolution of the Butterworth filter in Å, and what is wrong with it."""
    wanted = settings.filter_resolution
    shell = (reached if wanted is None else box * pixel_size / wanted) + settings.filter_offset
    offset, base = settings.filter_offset, shell - settings.filter_offset
    requirement = f"only {base:.0f} shells lie before the resolution"
    require(shell >= 1, "filter_offset", offset, requirement)
    requirement = (
        f"only {max(box // 2 - base, 0):.0f} shells lie between the resolution and Nyquist"
    )
    require(offset <= 0 or shell <= box // 2, "filter_offset", offset, requirement)
    said = []
    # beyond that nothing passes the weight
    if settings.fsc_weight and wanted is not None and shell > reached + 2:
        said.append(Finding("filter_fine", wanted=wanted, resolution=box * pixel_size / reached))
    return box * pixel_size / shell, said
