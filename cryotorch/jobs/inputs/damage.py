"""Images that look damaged: named in the log, listed in summary.json, never left out in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cryotorch.findings import Finding

if TYPE_CHECKING:
    from cryotorch.data.images import ParticleImages

NAMED_IMAGES = 3  # images named in the log
ENTRY = "damaged_images"  # of summary.json


def damaged_images(images: ParticleImages, loud: Mapping[int, str] | None = None) -> dict[str, str]:
    """Name -> reason: what was wrong with images as they were read, and what the algorithm found about others, by row."""
    both = (images.faults, dict(loud or {}))
    rows = sorted(both[0].keys() | both[1].keys())
    reasons = {row: [faults[row] for faults in both if row in faults] for row in rows}
    return {images.name(row): "; ".join(dict.fromkeys(told)) for row, told in reasons.items()}


def finding(found: Mapping[str, str], n: int) -> Finding:
    """That so many images among ``n`` are damaged."""
    first = ", ".join(f"{name} ({why})" for name, why in list(found.items())[:NAMED_IMAGES])
    count, more = dict(damaged=len(found), images=n), len(found) > NAMED_IMAGES
    return Finding("images_damaged", **count, examples=first, more=more)
