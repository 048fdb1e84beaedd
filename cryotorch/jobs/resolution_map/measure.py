"""The map of local resolution, and what of it may be said."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.fsc.claim import Claim, claim
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.inputs.map_grid import apart, bring, grid_of, how
from cryotorch.jobs.inputs.maps import load_map
from cryotorch.ops.resolution.local_resolution import (
    NOISE_SCATTER,
    coarsest_band,
    local_low_pass,
    local_resolution,
)
from cryotorch.report.sentences import line, say
from cryotorch.results import told

if TYPE_CHECKING:
    from cryotorch.jobs.resolution_map.settings import LocalResolution

log = logging.getLogger("cryotorch")
PERCENTILES = (5, 25, 50, 75, 95)
MANY = 0.05  # part of the mask that is spoken of
CLOSE = 1e-3  # relative difference to an end of the scale that is none


@dataclass(frozen=True)
class LocalMap:
    """Local resolution of two half maps.

    Attributes:
        resolution: (d, d, d) Å, 0 where nothing is said: outside the mask, and where only what both half sets were aligned to agrees.
        cutoff: (d, d, d) Å, that of a local low-pass, which the whole box needs.
        inside: (d, d, d) bool, the mask's voxels.
        threshold: local FSC that counts as resolved.
        finest: Å, what may be claimed of the half maps as a whole, and the finest that is said anywhere.
        coarsest: Å, of the coarsest band: what does not even reach it has this value.
    """

    resolution: Tensor
    cutoff: Tensor
    inside: Tensor
    threshold: float
    finest: float
    coarsest: float

    def cpu(self) -> LocalMap:
        """The same on the CPU."""
        names = ("resolution", "cutoff", "inside")
        return replace(self, **{name: getattr(self, name).cpu() for name in names})

    @property
    def stated(self) -> Tensor:
        """(d, d, d) bool, where a resolution is said."""
        return self.resolution > 0

    @property
    def shown(self) -> Tensor:
        """(d, d, d) Å, infinite where nothing is said."""
        return torch.where(self.stated, self.resolution, math.inf)

    @property
    def part_at_finest(self) -> float:
        """Part of the mask's voxels that may be finer than can be said."""
        return self._part(self.stated & (self.cutoff <= self.finest * (1 + CLOSE)))

    @property
    def part_at_coarsest(self) -> float:
        """Part of them that may be coarser than the scale goes."""
        return self._part(self.stated & (self.cutoff >= self.coarsest * (1 - CLOSE)))

    @property
    def part_not_said(self) -> float:
        """Part of them without a value."""
        return self._part(self.inside & ~self.stated)

    @property
    def percentiles(self) -> dict[str, float]:
        """Å within the mask; voxels without a value count as coarser than any, and a percentile among them is NaN."""
        values = self.shown[self.inside].cpu().numpy()
        found = np.percentile(values, PERCENTILES, method="higher").tolist()
        return {str(p): _finite(v) for p, v in zip(PERCENTILES, found, strict=True)}

    @property
    def numbers(self) -> dict[str, object]:
        """For ``summary.json``: Å within the mask, and the parts of its voxels that are at an end of the scale or have no value."""
        percentiles = self.percentiles
        return {
            "median": percentiles["50"],
            "percentiles": percentiles,
            "threshold": self.threshold,
            "finest_said": self.finest,
            "coarsest_said": self.coarsest,
            "part_at_finest": self.part_at_finest,
            "part_at_coarsest": self.part_at_coarsest,
            "part_not_said": self.part_not_said,
            "value_where_not_said": 0.0,
            "voxels": int(self.inside.sum()),
        }

    def findings(self, shared: float | None) -> list[Finding]:
        """What to know before these values are quoted; ``shared`` Å, up to which both half sets were aligned to one map."""
        found = []
        if self.threshold < 3 * NOISE_SCATTER:
            found.append(
                Finding("local_threshold_low", threshold=self.threshold, noise=3 * NOISE_SCATTER)
            )
        if self.part_not_said:
            found.append(Finding("local_not_said", part=self.part_not_said, shared=shared))
        return found

    def remarks(self) -> list[Finding]:
        """How much of the mask is at an end of the scale."""
        found = []
        if self.part_at_finest > MANY:
            found.append(
                remark("local_at_finest", part=self.part_at_finest, resolution=self.finest)
            )
        if self.part_at_coarsest > MANY:
            about = dict(part=self.part_at_coarsest, resolution=self.coarsest)
            found.append(remark("local_at_coarsest", **about))
        return found

    def _part(self, voxels: Tensor) -> float:
        return float(voxels.sum()) / max(int(self.inside.sum()), 1)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def measure(judged: Claim, pixel_size: float, threshold: float, shared: float) -> LocalMap:
    """The local resolution of half maps for which a resolution can be claimed, no finer than that.

    ``shared``: shell up to which both half sets were aligned to one map, 0 = not at all. Where the halves part before that shell, their
    agreement up to there may be that map's, and nothing is said.
    """
    log.info("Local resolution, local FSC = %g", threshold)
    mask, edge = judged.made.mask, len(judged.mean) * pixel_size
    found = local_resolution(judged.maps, pixel_size, mask, threshold, finest=judged.resolution)
    inside = mask > 0.5 * mask.max()
    independent = found <= edge / shared if shared else torch.ones_like(inside)
    coarsest = max(coarsest_band(edge), judged.resolution)
    said = torch.where(inside & independent, found, 0.0)
    local = LocalMap(said, found, inside, threshold, judged.resolution, coarsest)
    low, median, high = (told(local.percentiles[name]) for name in ("5", "50", "95"))
    log.info("Within the mask it is %s in the median, 5 to 95 %%: %s to %s", median, low, high)
    for remarked in local.remarks():
        log.info(line(remarked))
    return local


@dataclass(frozen=True)
class LocalResult:
    """What ``local_resolution`` finds; tensors on the CPU.

    Attributes:
        local: the values; claim: what they rest on.
        volume: (d, d, d) the map that was given, else the mean of the half maps; file: where it was read, or None.
        filtered: (d, d, d) the same, each part low-passed at its own resolution.
        warnings: what is wrong with half maps, mask and curves, and what to know of the values.
    """

    local: LocalMap
    claim: Claim
    volume: Tensor
    file: Path | None
    filtered: Tensor
    warnings: list[Finding]


def local_result(settings: LocalResolution, halves: HalfMaps, device: torch.device) -> LocalResult:
    """Everything but reading half maps and writing; lengths in ``settings`` in Å.

    Raises:
        InputError: no resolution can be claimed, or the mask or map does not fit the half maps.
    """
    shape = settings.threshold, settings.mask_near, settings.mask_far
    trusted = settings.pixel_size is not None
    judged = claim(halves, device, settings.mask, trusted, shape, settings.seed)
    if not judged.claims:
        raise InputError(
            f"There is no local resolution without one to claim: {say(judged.warnings[-1])}"
        )
    volume, file, said = _map_to_filter(settings, halves)
    volume = judged.mean if volume is None else volume.to(device)
    shared = halves.known.shared
    local = measure(judged, halves.pixel_size, settings.local_threshold, shared)
    filtered = local_low_pass(volume, halves.pixel_size, local.cutoff)
    edge = len(volume) * halves.pixel_size
    warnings = [*judged.warnings, *said, *local.findings(edge / shared if shared else None)]
    return LocalResult(local.cpu(), judged, volume.cpu(), file, filtered.cpu(), warnings)


def _map_to_filter(
    settings: LocalResolution, halves: HalfMaps
) -> tuple[Tensor | None, Path | None, list[Finding]]:
    """The map that was given, or the sharpened one beside the half maps, on their grid; its file, and what is wrong with it."""
    beside = None if halves.folder is None else halves.folder / "map_sharp.mrc"
    file = beside if settings.map is None else Path(settings.map)
    if file is None or (file is beside and not file.is_file()):
        log.info("The mean of the half maps is filtered, not sharpened: map=<file> takes another")
        return None, None, []
    volume, pixel_size = load_map(file, "map", settings.pixel_size)
    own, grid = grid_of(file, pixel_size), halves.grid
    away = apart(own, grid)
    volume, cut = bring(volume, own, grid, away, f"map={file}")
    log.info("Map %s, %s", file, how(own, grid, away))
    return volume, file, [] if cut is None else [cut]
