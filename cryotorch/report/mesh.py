"""The map as a surface of triangles, small enough for a browser."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from skimage.measure import marching_cubes
from torch import Tensor

from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.report import style

_BOXES = (64, 48, 32, 24)  # voxels along an edge, the first that is smooth enough
MAX_VERTICES = 65_535  # TensorBoard's viewer counts them with 16 bits
DENSITY_SHARE = 0.22  # contour level as a share of the 99.9th percentile inside the mask

_RADIAL = LinearSegmentedColormap.from_list(
    "radial", [style.VERMILION, style.ORANGE, "#f4efe6", style.SKY, style.BLUE]
)


class Mesh(NamedTuple):
    """vertices (v, 3) float32 in Å about the centre (x, y, z); faces (f, 3) int32; colours (v, 3) uint8."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


def isosurface(volume: Tensor, mask: Tensor | None, pixel_size: float) -> Mesh | None:
    """Surface of a map (d, d, d) inside a mask, coloured by the distance from the centre; None when there is none.

    The map is Fourier-cropped to at most 64 voxels along an edge, and further where noise makes the surface too rough.
    What lies outside the mask is noise and would be most of the triangles.
    """
    for box in _BOXES:
        mesh = _surface(volume, mask, pixel_size, min(box, volume.shape[-1]))
        if mesh is None or len(mesh.vertices) <= MAX_VERTICES:
            return mesh
    return None


def _surface(volume: Tensor, mask: Tensor | None, pixel_size: float, box: int) -> Mesh | None:
    voxel = pixel_size * volume.shape[-1] / box
    values = resize_volume(volume, box).numpy()
    inside = np.ones(values.shape, bool)
    if mask is not None:
        weight = resize_volume(mask, box).numpy().clip(0, 1)
        values, inside = values * weight, weight > 0.5
    if not inside.any():
        return None
    level = DENSITY_SHARE * float(np.percentile(values[inside], 99.9))
    # A zero border closes the surface where the map touches the box.
    values = np.pad(values, 1)
    if not np.isfinite(level) or not max(0.0, values.min()) < level < values.max():
        return None
    # marching_cubes' normals point inwards in (z, y, x); the mirror to (x, y, z) turns them outwards.
    points, faces, _, _ = marching_cubes(values, level)
    vertices = ((points[:, ::-1] - 1 - box // 2) * voxel).astype(np.float32)
    radius = np.linalg.norm(vertices, axis=1)
    low, high = np.percentile(radius, (2, 98))
    share = ((radius - low) / max(high - low, 1e-6)).clip(0, 1)
    colours = (_RADIAL(share)[:, :3] * 255).astype(np.uint8)
    return Mesh(vertices, faces.astype(np.int32), colours)
