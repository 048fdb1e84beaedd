"""What ``validation_fsc`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Angstrom, Length, mask_widths, require


@dataclass(frozen=True)
class ValidationFsc:
    """The parameters; meanings and defaults in ``configs/job/validation_fsc.yaml``, lengths in Å."""

    volume: str | None
    half_map_a: str | None
    half_map_b: str | None
    mask: str | None
    pixel_size: Angstrom | None
    symmetry: str | None
    out: str | None
    overwrite: bool
    dry_run: bool
    generate_mask: Literal["auto"] | bool
    relative_threshold: bool
    threshold: float
    mask_near: Length
    mask_far: Length
    optimize_mask: Literal["auto"] | bool
    randomize_below: Length
    device: Literal["auto", "cpu", "cuda"]
    seed: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the maps are."""
        fraction = not self.relative_threshold or 0 < self.threshold < 1
        requirement = (
            "it is a fraction between 0 and 1 (an absolute density needs relative_threshold=false)"
        )
        require(fraction, "threshold", self.threshold, requirement)
        mask_widths(self)
        lost = self.optimize_mask is True and self.generate_mask is False and self.mask is None
        requirement = "generate_mask=false leaves no mask to tighten, give mask=<file>"
        require(not lost, "optimize_mask", True, requirement)

    @property
    def generates(self) -> bool:
        """Whether a mask is made."""
        return self.mask is None if self.generate_mask == "auto" else self.generate_mask

    @property
    def tightens(self) -> bool:
        """Whether a mask is tightened."""
        return self.generates if self.optimize_mask == "auto" else self.optimize_mask
