"""What ``orientation_diagnostics`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Angle, Angstrom, Length, mask_widths, require


@dataclass(frozen=True)
class OrientationDiagnostics:
    """The parameters; meanings and defaults in ``configs/job/orientation_diagnostics.yaml``, lengths in Å."""

    volume: str | None
    half_map_a: str | None
    half_map_b: str | None
    particles: str | None
    class_: int | None
    mask: str | None
    pixel_size: Angstrom | None
    out: str | None
    overwrite: bool
    dry_run: bool
    cone_angle: Angle
    n_directions: int
    symmetry: str | None
    sampling_radius: float
    max_particles: int
    threshold: float
    mask_near: Length
    mask_far: Length
    device: Literal["auto", "cpu", "cuda"]
    seed: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the maps are."""
        n = self.n_directions
        require(n % 2 == 0, "n_directions", n, "it must be even")
        requirement = "it is a fraction between 0 and 1"
        require(0 < self.threshold < 1, "threshold", self.threshold, requirement)
        mask_widths(self)
