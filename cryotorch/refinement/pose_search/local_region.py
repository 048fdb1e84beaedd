"""What a local search knows besides the images: the poses that it stays near to, and the part of the particle that it leaves out."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.slices import Projector, projector
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.settings import SearchExtent
from cryotorch.refinement.state import State


class LocalRegion:
    """Of one iteration, on the device.

    Args:
        state: with centre and anchor poses; reach: how far poses may go from the centres.
    """

    def __init__(
        self, state: State, reach: SearchExtent, pixel_size: float, device: torch.device
    ) -> None:
        self.reach, self.pixel_size, self.subtracted = reach, pixel_size, state.rest
        self.centre = state.centre_rotation.to(device), state.centre_shift.to(device) / pixel_size
        self.anchor = state.anchor_rotation.to(device), state.anchor_shift.to(device) / pixel_size
        self.rest: Projector | None = None

    def use(self, half: int) -> None:
        """Get what is subtracted from the images of a half set ready."""
        if self.subtracted is not None:
            self.rest = projector(self.subtracted[half])

    def prior(self, rows: Tensor) -> PosePrior:
        """What ties the particles of these rows (b,) down."""
        rotation, shift_px = self.centre
        return PosePrior(rotation[rows], shift_px[rows], self.reach)

    def inside(self, seen: Observation, rows: Tensor) -> Observation:
        """The images of some rows (b,) less the projections of what the search leaves out, where it was at first."""
        if self.rest is None:
            return seen
        rotation, shift_px = self.anchor
        pose = rotation[rows], shift_px[rows]
        rest = predict(self.rest, *pose, seen.gain, magnification=seen.magnification)
        return replace(seen, spectrum=seen.spectrum - rest)
