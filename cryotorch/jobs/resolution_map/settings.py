"""What ``local_resolution`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Angstrom, Length, mask_widths, require


@dataclass(frozen=True)
class LocalResolution:
    """The parameters; meanings and defaults in ``configs/job/local_resolution.yaml``, lengths in Å."""

    volume: str | None
    half_map_a: str | None
    half_map_b: str | None
    map: str | None
    mask: str | None
    pixel_size: Angstrom | None
    symmetry: str | None
    out: str | None
    overwrite: bool
    dry_run: bool
    local_threshold: float
    color_range: list[float] | None
    threshold: float
    mask_near: Length
    mask_far: Length
    device: Literal["auto", "cpu", "cuda"]
    seed: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the maps are."""
        for name in ("threshold", "local_threshold"):
            value = getattr(self, name)
            require(0 < value < 1, name, value, "it is a fraction between 0 and 1")
        mask_widths(self)
        if self.color_range is not None:
            ends = self.color_range
            requirement = "give two resolutions in Å, the finer one first, such as [3,8]"
            require(len(ends) == 2 and ends[0] < ends[1], "color_range", ends, requirement)
