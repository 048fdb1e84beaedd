"""What two half maps say about each other: mask, curves, resolutions and warnings."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.fsc import mask as fsc_mask
from cryotorch.jobs.fsc.advice import advice, nothing_shared
from cryotorch.jobs.fsc.mask import FscMask
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.ops.resolution.claims import Background, judge, unclaimed
from cryotorch.ops.resolution.fsc import (
    RANDOMISE_BELOW,
    THRESHOLD,
    first_randomised_shell,
    loose_mask,
    resolution,
    shell_correlation,
)

if TYPE_CHECKING:
    from cryotorch.jobs.fsc.settings import ValidationFsc

log = logging.getLogger("cryotorch")
STRICTER = 0.5  # a second threshold, for those who ask


@dataclass(frozen=True)
class Validation:
    """What was found.

    Attributes:
        first: the mask before any tightening; mask: the one behind the tight and corrected curves.
        curves: name -> (d//2 + 1,) FSC, on the CPU.
        band: (d//2 + 1,) FSC that noise in the mask stays below.
        resolutions: threshold -> curve -> Å, curve "randomised" left out; all NaN where nothing can be claimed.
        onset: first shell with random phases, d//2 + 1 if there is none.
        warnings: what is wrong with half maps, mask and curves.
        seconds: phase -> wall seconds.
        known: of the half maps.
        last: the shell of the resolution, or where the corrected curve falls below 0.143 though nothing can be claimed.
        ended_by: what ends the corrected curve after it, see ``ops.resolution.claims.ended_by``; "" where nothing can be claimed.
    """

    first: FscMask
    mask: FscMask
    curves: dict[str, Tensor]
    band: Tensor
    resolutions: dict[float, dict[str, float]]
    onset: int
    warnings: list[Finding]
    seconds: dict[str, float]
    known: Background
    last: int
    ended_by: str

    @property
    def resolution(self) -> float:
        """Å that may be claimed, NaN where nothing can be."""
        return self.resolutions[THRESHOLD]["corrected"]

    @property
    def claims(self) -> bool:
        """Whether a resolution can be claimed."""
        return math.isfinite(self.resolution)


def validate(
    settings: ValidationFsc,
    halves: HalfMaps,
    device: torch.device,
    adjustable: bool = True,
    no_mask: Tensor | None = None,
) -> Validation:
    """Masks and curves of two half maps as the settings, lengths in Å, ask for them.

    ``adjustable``: whether these are the user's settings, to be changed where a warning says so; ``no_mask``: (d // 2 + 1,) the FSC
    without a mask, where it is known already.

    Raises:
        InputError: the given mask cannot be used, or the density makes none.
    """
    times = [("", time.perf_counter())]
    maps, pixel_size = halves.maps.to(device), halves.pixel_size
    box, edge = maps.shape[-1], maps.shape[-1] * pixel_size
    mask = first = _first_mask(settings, maps, halves)
    times.append(("mask", time.perf_counter()))
    if no_mask is None:
        log.info("FSC without a mask")
        no_mask = shell_correlation(*maps)
    onset = max(_onset(settings.randomize_below, no_mask, edge), int(halves.known.shared) + 1)
    times.append(("curves", time.perf_counter()))
    if settings.tightens and not nothing_shared(no_mask):
        first = fsc_mask.softened(first, pixel_size, resolution(no_mask, box, pixel_size))
        mask = fsc_mask.tightened(first, maps, pixel_size, onset, settings, no_mask)
        times.append(("tighten", time.perf_counter()))
    if onset < box // 2 + 1:
        log.info("FSC with masks, corrected with random phases from %.2f Å on", edge / onset)
    elif bool((no_mask >= RANDOMISE_BELOW).all()):
        log.info("FSC with masks; without one it stays so high that there is nothing to correct")
    else:
        log.info("FSC with masks, not corrected: no random phases before Nyquist")
    loose = _loose_mask(mask, maps, pixel_size)
    judged = judge(maps, pixel_size, mask.mask, loose, halves.known, onset, settings.seed, no_mask)
    claims, warnings = advice(maps, judged, mask, pixel_size, halves.known, adjustable)
    curves = {name: curve.cpu() for name, curve in judged.curves.items()}
    stricter = {n: resolution(curves[n], box, pixel_size, STRICTER) for n in judged.resolutions}
    resolutions = {THRESHOLD: dict(judged.resolutions), STRICTER: stricter}
    if not claims:
        resolutions = {threshold: unclaimed(reached) for threshold, reached in resolutions.items()}
    times.append(("curves", time.perf_counter()))
    seconds = {"mask": 0.0, "curves": 0.0, "tighten": 0.0}
    for (_, start), (name, end) in pairwise(times):
        seconds[name] += end - start
    return Validation(
        first,
        mask,
        curves,
        judged.band.cpu(),
        resolutions,
        onset,
        warnings,
        seconds,
        halves.known,
        judged.last,
        judged.ended_by if claims else "",
    )


def _first_mask(settings: ValidationFsc, maps: Tensor, halves: HalfMaps) -> FscMask:
    """The mask that the settings ask for, before tightening."""
    if settings.generates:
        if settings.mask is not None:
            log.info("mask=%s is not used: generate_mask=true makes a new one", settings.mask)
        lengths = settings.mask_near, settings.mask_far
        return fsc_mask.make_mask(
            maps.mean(0),
            halves.pixel_size,
            settings.threshold,
            *lengths,
            settings.relative_threshold,
        )
    if settings.mask is not None:
        corrected = settings.pixel_size is not None
        return fsc_mask.given_mask(settings.mask, halves, corrected, maps.device)
    log.info("No mask: a soft sphere as wide as the box stands in for the tight one")
    return fsc_mask.sphere_mask(maps[0])


def _onset(below: float, no_mask: Tensor, edge: float) -> int:
    """The shell where random phases begin: from an FSC up to 1, or a resolution in Å above.

    Raises:
        InputError: that is beyond what the half maps resolve without a mask, and nothing would be corrected.
    """
    if below <= 1:
        onset = first_randomised_shell(no_mask, below)
    else:
        onset = min(max(math.ceil(edge / below - 1e-6), 1), len(no_mask))
    end = first_randomised_shell(no_mask, THRESHOLD)
    begin = f"begin at {edge / onset:.2f} Å" if onset < len(no_mask) else "not begin before Nyquist"
    requirement = (
        f"random phases would {begin}, but the FSC without a mask falls below {THRESHOLD:g} at {edge / end:.2f} Å already, "
        "and what the mask adds before they begin is not corrected: give a coarser resolution, or an FSC such as 0.8"
    )
    require(onset <= end, "randomize_below", below, requirement)
    return onset


def _loose_mask(mask: FscMask, maps: Tensor, pixel_size: float) -> Tensor | None:
    """As in refinements; None where there is no density to be loose around, or none is wanted."""
    if mask.kind == "sphere":
        return None
    try:
        return loose_mask(maps.mean(0), pixel_size)
    except ValueError as refused:
        log.info("There is no curve with a loose mask: %s", refused)
        return None
