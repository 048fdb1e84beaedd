"""Contact sheet of templates or class averages: every image with a line below it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from cryotorch.report import style
from cryotorch.report.style import add_panel, limits, new_figure, scale_bar

SHEET_COLUMNS, MAX_SHOWN = 10, 200
TILE, CAPTION, GAP = 0.95, 0.2, 0.04  # inches, and the others in tiles


def contact_sheet(
    images: Tensor, captions: list[str], pixel_size: float, title: str, subtitle: str = ""
) -> Figure:
    """Images (n, d, d) on one grey scale, row by row, each above its caption."""
    n, box = len(images), images.shape[-1]
    columns = min(SHEET_COLUMNS, n)
    rows = math.ceil(n / columns)
    wide, high = columns * (1 + GAP) - GAP, rows * (1 + CAPTION)
    # the title needs room also above a single tile
    width, below = max(3.6, 0.32 + TILE * wide), 0.12
    figure = new_figure(width, 0.62 + below + TILE * high, title, subtitle)
    axes = add_panel(figure, 0.16, below, TILE * wide, TILE * high)
    axes.set_axis_off()
    values = images.numpy()
    low, high_grey = limits(values, (0.2, 99.8))
    for i, (image, text) in enumerate(zip(values, captions, strict=True)):
        x, y = i % columns * (1 + GAP), -(i // columns) * (1 + CAPTION)
        look = {"cmap": "gray", "vmin": low, "vmax": high_grey, "interpolation": "bicubic"}
        axes.imshow(image, origin="lower", extent=(x, x + 1, y - 1, y), aspect="auto", **look)
        place: dict[str, Any] = {"ha": "center", "va": "top"}
        axes.text(x + 0.5, y - 1.02, text, fontsize=7, color=style.INK, **place)
    axes.set_xlim(0, wide)
    axes.set_ylim(-high, 0)
    scale_bar(axes, 0.06, -0.94, box * pixel_size)
    return figure


def view_captions(angles: Tensor) -> list[str]:
    """Rot and tilt of views (n, 2), degrees."""
    return [f"{r:.0f}°, {t:.0f}°".replace("-", "\N{MINUS SIGN}") for r, t in angles.tolist()]


def shown(n: int) -> np.ndarray:
    """Which of n templates a sheet shows: all, or so many evenly chosen."""
    return np.unique(np.linspace(0, n - 1, min(n, MAX_SHOWN)).round().astype(int))
