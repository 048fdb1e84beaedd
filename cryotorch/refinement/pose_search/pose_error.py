"""Standard errors of poses: the noise of the image, and that of the reference.

The covariance of a search (Laplace) knows the noise of the image alone. The reference is noisy too, and moves the pose of
every particle. How far is seen where the same image is compared with the other half set's reference: the two poses differ by
the noise of both references, which are independent beyond the split, so that

    var(true error) = var(image) + var(difference) / 2      per axis.

A median over particles, as some find another pose altogether, gives one factor for all standard errors of a run.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.pose_search.search import Poses, Reference, polish
from cryotorch.refinement.settings import SearchSettings

COMPARED_IMAGES = (
    64  # images of each half set, on every process, that are compared with both references
)
MIN_COMPARED = 16  # images: fewer tell nothing
CHI2_MEDIANS = (
    2.366,
    1.386,
)  # of chi² with the three degrees of freedom of a rotation, and the two of a shift


def pose_difference(
    volume: Tensor,
    limit: float,
    images: Observation,
    poses: Poses,
    settings: SearchSettings,
    prior: PosePrior | None,
) -> Tensor:
    """How far (b, 2), radians and pixels, the poses of b images move against the other half set's reference (d, d, d)."""
    reference = Reference(projector(volume, limit), limit, limit, None)
    image = torch.arange(len(poses.rotation), device=volume.device)
    start = image, poses.rotation, poses.shift_px
    found = polish(reference, images, *start, settings, prior, first=limit)
    turn = rotation_angle(found.rotation, poses.rotation)
    move = (found.shift_px - poses.shift_px).norm(dim=1)
    return torch.stack([turn, move], 1)


def error_factors(sigma: Tensor, difference: Tensor) -> Tensor:
    """Factors (2,) from standard errors of the searches to those of the poses, for rotation and shift; 1 where nothing tells.

    Args:
        sigma: (n, 2) per axis, of the searches; difference: (n, 2) in the same units, zero for particles that were not compared.
    """
    compared = (difference > 0).all(1) & (sigma > 0).all(1)
    if compared.sum() < MIN_COMPARED:
        return torch.ones(2)
    spread = difference[compared].square().median(0).values / torch.tensor(CHI2_MEDIANS)
    own = sigma[compared].square().median(0).values
    return (1 + spread / 2 / own).sqrt()
