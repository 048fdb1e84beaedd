"""Figure of the segments of a map: coloured and numbered, as seen along the axes and in slices."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from cryotorch.report import style
from cryotorch.report.maps import central_slices, gallery, projections, show_image
from cryotorch.report.style import limits, scale_bar

# Neighbours in the order of size are told apart; "#F0E442" is the yellow of the same palette.
COLOURS = (style.ORANGE, style.SKY, style.GREEN, "#F0E442", style.BLUE, style.VERMILION, style.PURPLE)  # fmt: skip
TINT = {True: 0.65, False: 0.2}  # of the segments that were kept, and of the others
NUMBERED = 20  # the largest, as in the log
LABEL_GAP = 0.045  # of the image, between numbers
SMALLEST = 4e-4  # of the image: a number would hide what is smaller


def segment_figure(
    volume: Tensor,
    labels: Tensor,
    kept: Collection[int],
    pixel_size: float,
    title: str,
    through: tuple[int, int, int] | None = None,
) -> Figure:
    """Segments ``labels`` (d, d, d), 0 outside, over projections of a volume and over slices through a voxel (x, y, z).

    In the projections every pixel shows the segment that is thickest behind it.
    """
    volume, labels = volume.cpu(), labels.cpu()
    subtitle = "numbers as in the log; strong colours = kept"
    figure, axes = gallery(title, subtitle, ["Projections", "Slices"])
    rows = (
        (projections(volume), [_thickest(labels.numpy(), axis) for axis in (0, 1, 2)]),
        (central_slices(volume, through), central_slices(labels, through)),
    )
    for row, (images, cuts) in enumerate(rows):
        low, high = limits(np.stack(images), (0.2, 99.8))
        for column, (image, cut) in enumerate(zip(images, cuts, strict=True)):
            grey = ((image - low) / (high - low)).clip(0, 1)
            extent = show_image(axes, _tinted(grey, cut, kept), row, column, 0, 1)
            _number(axes, cut, kept, extent)
        scale_bar(axes, 0.05, extent[2] + 0.05, volume.shape[-1] * pixel_size)
    return figure


def _thickest(labels: np.ndarray, axis: int) -> np.ndarray:
    """Along an axis, the label with the most voxels; 0 where there is none."""
    columns = np.moveaxis(labels, axis, 0).reshape(len(labels), -1)
    layer, pixel = columns.nonzero()
    pairs, counts = np.unique(np.stack([pixel, columns[layer, pixel]]), axis=1, return_counts=True)
    pixel, label = pairs[:, counts.argsort(kind="stable")]
    seen = np.zeros(columns.shape[1], labels.dtype)
    seen[pixel] = label  # in the order of their thickness: the last one stays
    return seen.reshape(len(labels), -1)


def _tinted(grey: np.ndarray, cut: np.ndarray, kept: Collection[int]) -> np.ndarray:
    """(h, w, 3): the image, with the colour of the segment mixed in."""
    colours = np.array([to_rgb(colour) for colour in COLOURS])[(cut - 1) % len(COLOURS)]
    part = np.where(np.isin(cut, list(kept)), TINT[True], TINT[False]) * (cut > 0)
    return grey[..., None] * (1 - part[..., None]) + colours * part[..., None]


def _number(axes: Axes, cut: np.ndarray, kept: Collection[int], extent: tuple) -> None:
    """Each segment's number on the pixel of it that is nearest to its middle, unless a larger one's is there."""
    left, right, bottom, top = extent
    height, width = cut.shape
    taken: list[tuple[float, float]] = []
    shown, counts = np.unique(cut, return_counts=True)
    for label, count in zip(shown.tolist(), counts.tolist(), strict=True):
        if label == 0 or label > NUMBERED or count < SMALLEST * cut.size:
            continue
        at = np.argwhere(cut == label)
        y, x = at[np.square(at - at.mean(0)).sum(1).argmin()]
        place = (
            left + (x + 0.5) / width * (right - left),
            bottom + (y + 0.5) / height * (top - bottom),
        )
        if any(max(abs(a - b) for a, b in zip(place, other)) < LABEL_GAP for other in taken):
            continue
        taken.append(place)
        text = axes.text(*place, str(label), ha="center", va="center", fontsize=7.5)
        text.set_color(style.INK if label in kept else style.FAINT)
        text.set_path_effects([withStroke(linewidth=1.6, foreground="white")])
