"""What ties particles to the poses they came with: extents, priors, and the fulcrum that rotations turn about.

A pose (R, s) is told relative to a centre pose (R0, s0) by a rotation vector w and a shift d,

    R = exp(w) R0,      s = s0 + P_xy (R - R0) f + d,

so that with d = 0 the fulcrum f, a point of the reference, keeps its place in the image whatever w is. Extents bound
|w| and |d|. Priors are Gaussian around w = 0 and d = 0; in the unit of scores, half a log-likelihood, they cost

    |w|^2 / (4 sigma_w^2) + |d|^2 / (4 sigma_d^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.geometry.rotations import from_rotation_vector, to_rotation_vector
from cryotorch.ops.pose.scores import PoseTerms
from cryotorch.refinement.settings import SearchExtent


@dataclass(frozen=True)
class PosePrior:
    """The centre poses of p particles or candidates, rotation (p, 3, 3) and shift_px (p, 2), and their reach."""

    rotation: Tensor
    shift_px: Tensor
    extent: SearchExtent

    def of(self, rows: Tensor) -> PosePrior:
        """The priors of some rows (r,)."""
        return PosePrior(self.rotation[rows], self.shift_px[rows], self.extent)

    def relative(self, rotation: Tensor, shift_px: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (p, 3, 3), (p, 2) as w (p, 3) and d (p, 2)."""
        turn = to_rotation_vector(rotation @ self.rotation.mT)
        return turn, shift_px - self.shift_px - self._swing(rotation)

    def pose(self, turn: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of ``relative``, with w (p, 3) and d (p, 2) brought back inside the extents."""
        turn = turn * _shorten(turn, self.extent.rotation)
        offset = offset * _shorten(offset, self.extent.shift)
        rotation = from_rotation_vector(turn) @ self.rotation
        return rotation, self.shift_px + self._swing(rotation) + offset

    def confine(self, rotation: Tensor, shift_px: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest poses (p, 3, 3), (p, 2) inside the extents; the others stay as they are."""
        turn, offset = self.relative(rotation, shift_px)
        beyond = turn.norm(dim=1) > self.extent.rotation
        beyond |= offset.norm(dim=1) > self.extent.shift
        inside_rotation, inside_shift = self.pose(turn, offset)
        rotation = torch.where(beyond[:, None, None], inside_rotation, rotation)
        return rotation, torch.where(beyond[:, None], inside_shift, shift_px)

    def _swing(self, rotation: Tensor) -> Tensor:
        """P_xy (R - R0) f: how far the fulcrum would move in the image, (p, 2)."""
        fulcrum = torch.tensor(self.extent.fulcrum, dtype=rotation.dtype, device=rotation.device)
        return (rotation - self.rotation)[:, :2] @ fulcrum

    def cost(self, rotation: Tensor, shift_px: Tensor) -> Tensor:
        """What the priors take from the scores (p,) at poses (p, 3, 3), (p, 2)."""
        turn, offset = self.relative(rotation, shift_px)
        r, s = self.extent.rotation_sigma, self.extent.shift_sigma
        return turn.square().sum(1) / (4 * r * r) + offset.square().sum(1) / (4 * s * s)

    def derivatives(
        self, terms: PoseTerms, rotation: Tensor, shift_px: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradient (p, 5) and normal matrix (p, 5, 5) of score less cost, in (rotation vector, d)."""
        along = self.with_fulcrum(rotation)
        turn, offset = self.relative(rotation, shift_px)
        precision = self._precision(rotation)
        gradient = (along.mT @ terms.gradient[..., None])[..., 0] - precision * torch.cat(
            [turn, offset], 1
        )
        return gradient, along.mT @ terms.normal @ along + torch.diag(precision)

    def with_fulcrum(self, rotation: Tensor) -> Tensor:
        """The Jacobian (p, 5, 5) of (rotation vector, shift) by (rotation vector, d): turning by e moves s by (e x R f)_xy."""
        fulcrum = torch.tensor(self.extent.fulcrum, dtype=rotation.dtype, device=rotation.device)
        x, y, z = (rotation @ fulcrum).unbind(1)
        jacobian = torch.eye(5, dtype=rotation.dtype, device=rotation.device).repeat(
            len(rotation), 1, 1
        )
        jacobian[:, 3, 1], jacobian[:, 3, 2] = z, -y
        jacobian[:, 4, 0], jacobian[:, 4, 2] = -z, x
        return jacobian

    def step(self, rotation: Tensor, shift_px: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Poses after a step (p, 5) in (rotation vector, d), inside the extents."""
        _, offset = self.relative(rotation, shift_px)
        turned = from_rotation_vector(step[:, :3]) @ rotation
        return self.pose(to_rotation_vector(turned @ self.rotation.mT), offset + step[:, 3:])

    def _precision(self, like: Tensor) -> Tensor:
        sigma = [self.extent.rotation_sigma] * 3 + [self.extent.shift_sigma] * 2
        return 0.5 / torch.tensor(sigma, dtype=like.dtype, device=like.device).square()


def _shorten(vector: Tensor, length: float) -> Tensor:
    """The factor (p, 1) that brings vectors (p, n) to at most a length."""
    return (length / vector.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1)
