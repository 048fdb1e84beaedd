"""Figures of the map: central slices, projections, and the masks drawn over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from cryotorch.report import style
from cryotorch.report.style import add_panel, limits, new_figure, scale_bar
from cryotorch.results import IterationResult, told

PLANES = ("xy", "xz", "yz")
_TINT = LinearSegmentedColormap.from_list("tint", [style.ORANGE + "00", style.ORANGE + "80"])
_OUTLINE = {0.01: (style.SKY, 0.9), 0.5: (style.VERMILION, 1.6), 0.99: ("white", 0.9)}
_TILE = 2.0  # inches
_GAP = 0.04  # between tiles, in tiles


def central_slices(volume: Tensor, through: tuple[int, int, int] | None = None) -> list[np.ndarray]:
    """The xy, xz and yz planes through a voxel (x, y, z), by default pixel d//2."""
    x, y, z = through or (volume.shape[-1] // 2,) * 3
    return [volume[z].numpy(), volume[:, y].numpy(), volume[:, :, x].numpy()]


def projections(volume: Tensor) -> list[np.ndarray]:
    """Sums along z, y and x: the planes that ``central_slices`` shows."""
    return [volume.sum(axis).numpy() for axis in (0, 1, 2)]


def sharp_name(bfactor: float) -> str:
    """What ``map_sharp.mrc`` is after a B-factor, Å²: 0 leaves it weighted and filtered only."""
    if bfactor == 0:
        return "Filtered, not sharpened"
    return "Sharpened, slices" if bfactor < 0 else "Blurred, slices"


def slices(result: IterationResult) -> Figure:
    """Slices of the map and of the one that was to be sharpened, and projections of the map, one row each."""
    rows = {
        "Map, slices": central_slices(result.map),
        sharp_name(result.guinier.applied): central_slices(result.map_sharp),
        "Map, projections": projections(result.map),
    }
    box = result.map.shape[-1]
    title = f"The map, {told(result.resolution)}"
    subtitle = f"Iteration {result.iteration}, {box} px of {result.pixel_size:.4g} Å"
    return image_figure(rows, box * result.pixel_size, title, subtitle)


def image_figure(
    rows: Mapping[str, list[np.ndarray]], edge: float, title: str, subtitle: str = ""
) -> Figure:
    """Rows of three images each, with their own grey scale, of boxes ``edge`` Å wide."""
    figure, axes = gallery(title, subtitle, list(rows))
    for row, images in enumerate(rows.values()):
        low, high = limits(np.stack(images), (0.2, 99.8))
        for column, image in enumerate(images):
            show_image(axes, image, row, column, low, high)
        scale_bar(axes, 0.05, -row * (1 + _GAP) + 0.05, edge)
    return figure


def slice_figure(
    volumes: Mapping[str, Tensor],
    pixel_size: float,
    title: str,
    subtitle: str = "",
    through: tuple[int, int, int] | None = None,
) -> Figure:
    """Slices of volumes (d, d, d), a row each, as ``central_slices`` cuts them."""
    edge = next(iter(volumes.values())).shape[-1] * pixel_size
    rows = {name: central_slices(volume, through) for name, volume in volumes.items()}
    return image_figure(rows, edge, title, subtitle)


def masks(result: IterationResult) -> Figure:
    """The masks of an iteration over slices of its map."""
    rows = {"FSC mask (tight)": result.mask_fsc}
    if result.mask_refine is not None:
        rows = {"Refinement mask": result.mask_refine, **rows}
    return mask_figure(result.map, rows, result.pixel_size, "Masks over slices of the map")


def mask_figure(
    volume: Tensor,
    masks: Mapping[str, Tensor],
    pixel_size: float,
    title: str,
    through: tuple[int, int, int] | None = None,
) -> Figure:
    """Masks (d, d, d) over slices of a volume, a row each with its mean: tint = value, lines at 0.99, 0.5 and 0.01."""
    names = [f"{name}, {float(mask.double().mean()):.1%}" for name, mask in masks.items()]
    subtitle = "tint = mask value; lines at 0.99 (white), 0.5 (red) and 0.01 (blue): the soft edge"
    figure, axes = gallery(title, subtitle, names)
    images = central_slices(volume, through)
    low, high = limits(np.stack(images), (0.2, 99.8))
    for row, mask in enumerate(masks.values()):
        cuts = central_slices(mask, through)
        for column, (image, values) in enumerate(zip(images, cuts, strict=True)):
            extent = show_image(axes, image, row, column, low, high)
            axes.imshow(
                values, cmap=_TINT, vmin=0, vmax=1, origin="lower", extent=extent, aspect="auto"
            )
            # contour warns when it finds nothing to draw: an empty or a full slice.
            levels = [v for v in _OUTLINE if values.min() < v < values.max()]
            if levels:
                colours, widths = zip(*(_OUTLINE[v] for v in levels), strict=True)
                look: dict[str, Any] = {"colors": colours, "linewidths": widths}
                axes.contour(values, levels=levels, origin="lower", extent=extent, **look)
        scale_bar(axes, 0.05, -row * (1 + _GAP) + 0.05, volume.shape[-1] * pixel_size)
    return figure


def gallery(title: str, subtitle: str, names: list[str]) -> tuple[Figure, Axes]:
    """A figure with one Axes for ``show_image``: rows of three tiles of edge 1, the first row at y = 0 to 1.

    An Axes per image would take three times as long to draw.
    """
    wide, high = 3 + 2 * _GAP, len(names) + (len(names) - 1) * _GAP
    figure = new_figure(0.55 + _TILE * wide, 0.95 + _TILE * high, title, subtitle)
    axes = add_panel(figure, 0.4, 0.13, _TILE * wide, _TILE * high)
    axes.set_axis_off()
    axes.set_xlim(0, wide)
    axes.set_ylim(1 - high, 1)
    axes.autoscale(False)
    text = {"fontsize": 9, "color": style.INK}
    for column, plane in enumerate(PLANES):
        axes.text(column * (1 + _GAP) + 0.5, 1.02, plane, ha="center", va="bottom", **text)
    for row, name in enumerate(names):
        place = 0.5 - row * (1 + _GAP)
        axes.text(-0.03, place, name, ha="right", va="center", rotation=90, **text)
    return figure, axes


def show_image(
    axes: Axes, image: np.ndarray, row: int, column: int, low: float, high: float
) -> tuple[float, float, float, float]:
    """One image in its tile, in grey unless it brings its colours (h, w, 3); returns (left, right, bottom, top)."""
    x, y = column * (1 + _GAP), -row * (1 + _GAP)
    extent = (x, x + 1, y, y + 1)
    look = {"cmap": "gray", "vmin": low, "vmax": high, "interpolation": "bicubic"}
    axes.imshow(image, origin="lower", extent=extent, aspect="auto", **look)
    return extent
