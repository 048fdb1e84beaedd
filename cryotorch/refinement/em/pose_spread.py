"""The posterior of a pose as the few rotations and shifts that a particle is inserted at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.refinement.pose_search.search import Poses


@dataclass(frozen=True)
class PoseQuadrature:
    """A pose posterior as ``n`` rotations of equal weight, each with the shift's distribution given the rotation.

    Attributes:
        rotation: (b, n, 3, 3); offset_px: (b, n, 2), mean shift relative to the best one.
        shift_covariance: (b, 2, 2) pixels^2 of the shift at a given rotation, the same for all of them.
    """

    rotation: Tensor
    offset_px: Tensor
    shift_covariance: Tensor


def spread_poses(poses: Poses, posterior: str) -> PoseQuadrature:
    """Where a particle is inserted. "best_pose": there. "laplace": over its Gaussian posterior.

    The rotations are the six points +-sqrt(3) L_j, L the Cholesky factor of the rotation's covariance: the cubature rule of
    degree 3 (Arasaratnam & Haykin 2009, doi:10.1109/TAC.2009.2019800). The shift is Gaussian given the rotation and is
    integrated in closed form, which leaves fewer insertions than the ten points of all five dimensions.
    """
    if posterior == "best_pose":
        zero = torch.zeros_like(poses.shift_px)
        return PoseQuadrature(
            poses.rotation[:, None], zero[:, None], zero[:, :, None].expand(-1, 2, 2)
        )
    covariance = poses.covariance.double()
    turn, mixed = covariance[:, :3, :3], covariance[:, 3:, :3]
    slope = torch.linalg.solve_ex(turn, mixed.mT).result.mT  # mean shift per rotation vector
    rest = covariance[:, 3:, 3:] - slope @ mixed.mT
    root = math.sqrt(3) * torch.linalg.cholesky_ex(turn).L  # positive by the prior of the poses
    steps = [sign * root[:, :, j] for j in range(3) for sign in (1, -1)]
    offsets = [(slope @ w[:, :, None])[:, :, 0].float() for w in steps]
    return PoseQuadrature(
        torch.stack([from_rotation_vector(w.float()) @ poses.rotation for w in steps], 1),
        torch.stack(offsets, 1),
        rest.float(),
    )
