"""What there is to say of several classes: how many images each has, and whether the images support as many."""

from __future__ import annotations

from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.refinement.ab_initio.judge import MIN_LEAD
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.class_shares import EMPTY, effective_size, of_images

# Correlation of two maps after a fit from which on they are taken for one: 0.8 is what different molecules of like size reach at these
# resolutions.
ALIKE = 0.9


def class_findings(
    maps: Tensor, share: Tensor, leads: Tensor, settings: AbInitioSettings
) -> list[Finding]:
    """What there is to say of maps (k, d, d, d) where there are several.

    share (n, k): posterior of the images; leads (k,): standard errors by which unseen images prefer each map to one without structure.
    """
    k, parts = len(maps), of_images(share).tolist()
    if k == 1:
        return []
    rows = zip(parts, effective_size(share).tolist(), leads.tolist(), strict=True)
    findings = [
        remark("class", number=number, share=part, size=size, lead=lead, shapeless=lead <= MIN_LEAD)
        for number, (part, size, lead) in enumerate(rows, 1)
    ]
    filled = [number for number, part in enumerate(parts) if part >= EMPTY]
    if len(filled) < k:
        findings.append(Finding("classes_empty", empty=k - len(filled), classes=k))
    for at, first in enumerate(filled):
        for second in filled[at + 1 :]:
            found = likeness(maps[first], maps[second], settings.last_limit, settings)
            if found >= ALIKE:
                pair = dict(first=first + 1, second=second + 1)
                findings.append(Finding("classes_alike", **pair, correlation=found, classes=k))
    return findings


def correspondence(
    maps: Tensor, wanted: Tensor, weight: Tensor, limit: float, settings: AbInitioSettings
) -> float:
    """How far maps (j, d, d, d) show what others (k, d, d, d) of a weight (k,) show: mean of the best correlation that each of these has."""
    total = 0.0
    for one, part in zip(wanted, (weight / weight.sum()).tolist(), strict=True):
        if part > 0:
            total += part * max(likeness(volume, one, limit, settings) for volume in maps)
    return total


def likeness(first: Tensor, second: Tensor, limit: float, settings: AbInitioSettings) -> float:
    """Correlation of two maps (d, d, d) after a fit up to a limit in Fourier pixels, either hand; 0 where one has no density."""
    pixel_size = settings.grid.pixel_size
    resolution = settings.grid.box * pixel_size / limit
    try:
        return fit_map(first, second, pixel_size, resolution).correlation
    except ValueError:  # flat
        return 0.0
