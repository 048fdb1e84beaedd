"""The parameters of ``local_refine``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryotorch.jobs.config.parse import Angle, Length, require
from cryotorch.jobs.refinement.settings import RefineConfig


@dataclass(frozen=True)
class LocalRefine(RefineConfig):
    """The parameters; meanings and defaults in ``configs/job/local_refine.yaml``, lengths in Å."""

    shared_resolution: Length | None
    fulcrum: Literal["mask_center", "box_center"] | list[float] | list[str]
    rotation_extent: Angle | None
    shift_extent: Length | None
    recenter_rotations: bool
    recenter_shifts: bool
    subtract: bool
    prior_rotation: Angle | None
    prior_shift: Length | None

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        super().__post_init__()
        if not isinstance(self.fulcrum, str):
            requirement = "write three numbers, [x,y,z] in voxels from the corner of the box, or [35A,40A,52A]"
            require(len(self.fulcrum) == 3, "fulcrum", self.fulcrum, requirement)
        self._check_prior("rotation_extent", "prior_rotation", 1)
        self._check_prior("shift_extent", "prior_shift", 2)

    def _check_prior(self, extent: str, prior: str, share: int) -> None:
        most, sigma = getattr(self, extent), getattr(self, prior)
        if most is None or sigma is None or isinstance(most, str) or isinstance(sigma, str):
            return  # comes again with the pixel size
        within = sigma <= most / share
        name = extent if share == 1 else f"half of {extent}"
        require(
            within,
            prior,
            sigma,
            f"a prior wider than the search does nothing, it must be at most {name}, {most / share:g}",
        )
