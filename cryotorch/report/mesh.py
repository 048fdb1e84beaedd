"""The map as a surface of triangles, small enough for a browser."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from skimage.measure import marching_cubes
from torch import Tensor

from cryotorch.ops.fourier import resize_volume
from cryotorch.report import canvas

LARGEST = 64  # voxels along an edge: some 10^4 triangles, about 1 MB in the event file
DENSITY_SHARE = 0.22  # contour level as a share of the 99.9th percentile inside the mask

_RADIAL = LinearSegmentedColormap.from_list(
    "radial", [canvas.VERMILION, canvas.ORANGE, "#f4efe6", canvas.SKY, canvas.BLUE]
)


class Mesh(NamedTuple):
    """vertices (v, 3) float32 in Å about the centre (x, y, z); faces (f, 3) int32; colours (v, 3) uint8."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


def isosurface(volume: Tensor, mask: Tensor | None, pixel_size: float) -> Mesh | None:
    """Surface of a map (d, d, d) inside a mask, coloured by the distance from the centre; None when there is none.

    The map is Fourier-cropped to at most 64 voxels along an edge. What lies outside the mask is noise and would be
    most of the triangles.
    """
    box = volume.shape[-1]
    if box > LARGEST:
        volume = resize_volume(volume, LARGEST)
        mask = None if mask is None else resize_volume(mask, LARGEST)
    small = volume.shape[-1]
    inside = np.ones((small,) * 3, bool) if mask is None else mask.numpy() > 0.5
    if not inside.any():
        return None
    values = volume.numpy() * (1 if mask is None else mask.numpy().clip(0, 1))
    level = DENSITY_SHARE * float(np.percentile(values[inside], 99.9))
    # A zero border closes the surface where the map touches the box.
    values = np.pad(values, 1)
    if not np.isfinite(level) or not max(0.0, values.min()) < level < values.max():
        return None
    # marching_cubes' normals point inwards in (z, y, x); the mirror to (x, y, z) turns them outwards.
    points, faces, _, _ = marching_cubes(values, level)
    voxel = pixel_size * box / small
    vertices = ((points[:, ::-1] - 1 - small // 2) * voxel).astype(np.float32)
    radius = np.linalg.norm(vertices, axis=1)
    low, high = np.percentile(radius, (2, 98))
    share = ((radius - low) / max(high - low, 1e-6)).clip(0, 1)
    colours = (_RADIAL(share)[:, :3] * 255).astype(np.uint8)
    return Mesh(vertices, faces.astype(np.int32), colours)
