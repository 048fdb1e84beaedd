"""Binary and soft masks: grown, shrunk, filled and combined."""

from __future__ import annotations

import math

import scipy.ndimage
import torch
from torch import Tensor

from cryotorch.ops.masks.soft import distance_transform


def dilate(binary: Tensor, radius: float) -> Tensor:
    """All voxels of a mask, any shape, bool, within ``radius`` px of a True one; a negative radius erodes: it keeps the
    voxels farther than that from every False one. Beyond the box there is nothing, neither True nor False."""
    reach = abs(radius)
    if radius < 0:
        return distance_transform(~binary, math.floor(reach) + 1.0) > reach
    return distance_transform(binary, math.floor(reach) + 1.0) <= reach


def fill_holes(binary: Tensor) -> Tensor:
    """A mask, any shape, bool, and what it encloses: False voxels from which no path over faces leads to the border of the box."""
    filled = scipy.ndimage.binary_fill_holes(binary.cpu().numpy())
    return torch.from_numpy(filled).to(binary.device)


def unite(a: Tensor, b: Tensor) -> Tensor:
    """Or of two soft masks of any shape: the larger value."""
    return torch.maximum(a, b)


def intersect(a: Tensor, b: Tensor) -> Tensor:
    """And of two soft masks of any shape: the smaller value."""
    return torch.minimum(a, b)


def subtract(a: Tensor, b: Tensor) -> Tensor:
    """The first soft mask without the second, any shape: min(a, 1 - b)."""
    return torch.minimum(a, 1 - b)


def spheres(box: int, table: Tensor, edge: float, device: torch.device | str = "cpu") -> Tensor:
    """A soft mask (d, d, d) of the union of spheres.

    Rows (x, y, z, radius) of ``table`` (n, 4) are in voxels from the corner: 1 within the radius of any centre,
    cosine to 0 at ``radius + edge``. ValueError for a centre outside the box or a radius that is not positive.
    """
    line = torch.arange(box, dtype=torch.float32, device=device)
    depth = torch.full((box, box, box), math.inf, device=device)
    for x, y, z, radius in table.tolist():
        if not all(-0.5 <= c < box - 0.5 for c in (x, y, z)):
            raise ValueError(
                f"The sphere at ({x:g}, {y:g}, {z:g}) lies outside the box, whose voxels are 0 to {box - 1}."
            )
        if not radius > 0:
            raise ValueError(
                f"The sphere at ({x:g}, {y:g}, {z:g}) needs a radius above zero, got {radius:g}."
            )
        square = (
            (line - z).square()[:, None, None] + (line - y).square()[:, None] + (line - x).square()
        )
        torch.minimum(depth, square.sqrt() - radius, out=depth)
    if edge <= 0:
        return (depth <= 0).float()
    return 0.5 + 0.5 * torch.cos(math.pi * (depth / edge).clamp(0, 1))
