"""The points that a particle is inserted at have the mean and the covariance of its posterior."""

from __future__ import annotations

import torch

from cryotorch.ops.geometry.rotations import random_rotations, to_rotation_vector
from cryotorch.refinement.em.pose_spread import spread_poses
from cryotorch.refinement.pose_search.search import Poses


def poses(n: int = 5) -> Poses:
    draw = torch.Generator().manual_seed(4)
    root = torch.randn(n, 5, 5, generator=draw) * torch.tensor([0.02] * 3 + [0.5] * 2)[:, None]
    rotation, shift = random_rotations(n, draw), torch.randn(n, 2, generator=draw)
    return Poses(rotation, shift, root @ root.mT, None, torch.ones(n, dtype=torch.bool))


def test_the_best_pose_alone() -> None:
    found = poses()
    spread = spread_poses(found, "best_pose")
    assert torch.equal(spread.rotation, found.rotation[:, None])
    assert spread.offset_px.abs().max() == spread.shift_covariance.abs().max() == 0


def test_moments_of_the_points_are_those_of_the_posterior() -> None:
    found = poses()
    spread = spread_poses(found, "laplace")
    w = torch.stack([to_rotation_vector(r @ found.rotation.mT) for r in spread.rotation.unbind(1)])
    d = spread.offset_px.transpose(0, 1)
    assert len(w) == len(d) == 6
    both = torch.cat([w, d], 2)
    size = found.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert (both.mean(0).abs() < 1e-3 * size).all()
    covariance = torch.einsum("pbi,pbj->bij", both, both) / 6
    covariance[:, 3:, 3:] += spread.shift_covariance
    error = (covariance - found.covariance) / (size[:, :, None] * size[:, None])
    assert error.abs().max() < 2e-3
