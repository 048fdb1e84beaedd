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
        state: with centre and anchor poses; extent: how far poses may go from the centres.
    """

    def __init__(
        self, state: State, extent: SearchExtent, pixel_size: float, device: torch.device
    ) -> None:
        self.extent, self.pixel_size = extent, pixel_size
        self.subtracted = state.subtracted_reference
        self.centre = state.centre_rotation.to(device), state.centre_shift.to(device) / pixel_size
        self.anchor = state.anchor_rotation.to(device), state.anchor_shift.to(device) / pixel_size
        self.subtracted_slices: Projector | None = None

    def use(self, half: int) -> None:
        """Get what is subtracted from the images of a half set ready."""
        if self.subtracted is not None:
            self.subtracted_slices = projector(self.subtracted[half])

    def prior(self, rows: Tensor) -> PosePrior:
        """What ties the particles of these rows (b,) down."""
        rotation, shift_px = self.centre
        return PosePrior(rotation[rows], shift_px[rows], self.extent)

    def inside(self, images: Observation, rows: Tensor) -> Observation:
        """The images of some rows (b,) less the projections of what the search leaves out, where it was at first."""
        if self.subtracted_slices is None:
            return images
        rotation, shift_px = self.anchor
        pose = rotation[rows], shift_px[rows]
        outside = predict(
            self.subtracted_slices, *pose, images.gain, magnification=images.magnification
        )
        return replace(images, spectrum=images.spectrum - outside)
