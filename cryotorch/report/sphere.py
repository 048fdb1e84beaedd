"""Densities of directions on the sphere, fast for a million particles."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

_GRID = 72  # voxels along an edge of the cube that holds the unit sphere
_REACH = 1.2  # half edge of that cube: the sphere and the tails of the kernel


def viewing_directions(rotation: np.ndarray) -> np.ndarray:
    """(n, 3) unit vectors in the reference frame along which the particles were seen.

    The projection runs along the particle's z axis, R^T z: the last row of R. Its longitude and polar angle are
    RELION's rot and tilt.
    """
    return np.ascontiguousarray(rotation[:, 2, :])


def bandwidth(n: int) -> float:
    """Radians: a kernel that covers about 25 of n uniform directions, between 3 and 12 degrees.

    A Gaussian of s radians covers an area of 4 pi s^2, the share s^2 of the sphere.
    """
    return float(np.clip(np.sqrt(25 / max(n, 1)), np.radians(3), np.radians(12)))


def smooth_density(
    direction: np.ndarray, weight: np.ndarray | None, at: np.ndarray, sigma: float
) -> np.ndarray:
    """Density of directions (n, 3) at the unit vectors ``at`` (*b, 3), relative to uniform (mean over the sphere 1).

    Between two points of the unit sphere the Gaussian exp(-|x - y|^2 / 2 s^2) equals exp((x.y - 1) / s^2), the von
    Mises-Fisher kernel, so the sphere is filtered as a thin shell in a cube: the cost does not grow with n.

    Args:
        weight: (n,) or None for ones; the density of the weights per direction, uniform meaning weights 1.
        sigma: s, radians.
    """
    voxel = 2 * _REACH / _GRID
    # shared between the eight voxels around: whole voxels would favour some directions over others
    place = (direction + _REACH) / voxel - 0.5
    lower = np.floor(place).astype(np.int64).clip(0, _GRID - 2)
    near = place - lower
    counts = np.zeros(_GRID**3)
    for corner in np.ndindex(2, 2, 2):
        share = np.where(corner, near, 1 - near).prod(1)
        flat = np.ravel_multi_index((lower + corner).T, (_GRID,) * 3)
        counts += np.bincount(flat, share if weight is None else share * weight, _GRID**3)
    counts = counts.reshape((_GRID,) * 3)
    blurred = gaussian_filter(counts.astype(np.float32), sigma / voxel, truncate=3.5)
    place = (np.moveaxis(at, -1, 0) + _REACH) / voxel - 0.5
    values = map_coordinates(blurred, place, order=1)
    # A uniform density of n points: n / (4 pi) per steradian times the kernel's integral 2 pi s^2, normalised in 3D.
    uniform = len(direction) / (4 * np.pi) * 2 * np.pi * sigma**2
    uniform *= voxel**3 / (2 * np.pi * sigma**2) ** 1.5
    return values / max(uniform, 1e-30)


def sphere_grid(longitudes: int, latitudes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (longitudes+1,) and (latitudes+1,) in radians, and unit vectors at the cell centres (lat, lon, 3)."""
    lon = np.linspace(-np.pi, np.pi, longitudes + 1)
    lat = np.linspace(-np.pi / 2, np.pi / 2, latitudes + 1)
    a, b = (lon[1:] + lon[:-1]) / 2, ((lat[1:] + lat[:-1]) / 2)[:, None]
    cos = np.cos(b)
    vectors = np.stack(np.broadcast_arrays(cos * np.cos(a), cos * np.sin(a), np.sin(b)), -1)
    return lon, lat, vectors
