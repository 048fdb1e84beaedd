"""What ``sharpen`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Angstrom, Length, require
from cryotorch.jobs.config.units import in_pixels, parse_length


@dataclass(frozen=True)
class Sharpen:
    """The parameters; meanings and defaults in ``configs/job/sharpen.yaml``, lengths in Å."""

    volume: str | None
    half_map_a: str | None
    half_map_b: str | None
    mask: str | None
    pixel_size: Angstrom | None
    symmetry: str | None
    out: str | None
    overwrite: bool
    dry_run: bool
    apply_mask: bool
    spherical_mask: bool
    bfactor: float | list[float] | None
    fit_from: Length
    fit_to: Length | None
    guinier_map: Literal["masked", "whole"]
    fsc_weight: bool
    filter_resolution: Length | None
    filter_order: int
    filter_offset: int
    local: bool
    local_threshold: float
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
        self._ordered("mask_near", "mask_far", "above")
        if self.fit_to is not None:
            self._ordered("fit_to", "fit_from", "coarser than")
        if isinstance(self.bfactor, list):
            requirement = "give one or more different B-factors, such as [-50,-100]"
            distinct = {f"{b:g}" for b in self.bfactor}
            require(0 < len(self.bfactor) == len(distinct), "bfactor", self.bfactor, requirement)

    def _ordered(self, small: str, large: str, word: str) -> None:
        """Pixels and Å are compared when all are Å: ``in_angstrom`` makes a new one, which comes here again."""
        low, high = getattr(self, small), getattr(self, large)
        if in_pixels(low) == in_pixels(high):
            ordered = parse_length(high, 1.0) > parse_length(low, 1.0)
            require(ordered, large, high, f"it must be {word} {small}={low}")
