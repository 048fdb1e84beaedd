"""Viewing directions as a BILD file: cylinders around the map in ChimeraX."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from cryotorch.report.sphere import viewing_directions

_DIRECTIONS = 2000


def fibonacci_sphere(n: int) -> np.ndarray:
    """(n, 3) nearly evenly spaced unit vectors along a golden-angle spiral."""
    i = np.arange(n) + 0.5
    z = 1 - 2 * i / n
    angle = np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], 1)


def orientation_bild(rotation: np.ndarray, box: int, pixel_size: float, radius: float) -> str:
    """One cylinder per occupied cell of the sphere, in the coordinates of ``map.mrc``.

    Height and colour (blue to red) grow with the number of particles; the tallest has half the ``radius`` (Å) of
    the sphere it stands on.
    """
    cells = fibonacci_sphere(_DIRECTIONS)
    nearest = cKDTree(cells).query(viewing_directions(rotation))[1]
    counts = np.bincount(nearest, minlength=_DIRECTIONS)
    share = counts / max(counts.max(), 1)
    centre = box // 2 * pixel_size
    width = 0.7 * radius * np.sqrt(4 / _DIRECTIONS)
    lines = []
    for cell in np.flatnonzero(counts):
        foot = centre + cells[cell] * radius
        top = centre + cells[cell] * radius * (1 + 0.5 * share[cell])
        lines.append(f".color {share[cell]:.3f} 0.2 {1 - share[cell]:.3f}")
        ends = " ".join(f"{v:.3f}" for v in (*foot, *top))
        lines.append(f".cylinder {ends} {width:.3f}")
    return "\n".join(lines) + "\n"
