"""Figures of a CTF refinement: changes of the defocus, phases of the optics groups, their magnification."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cryotorch.report import style
from cryotorch.report.style import add_panel, empty_note, label, legend, new_figure

Array = NDArray[np.floating]
PHASE_BLUR = 1.5  # Fourier pixels: single coefficients show nothing but noise
EXAGGERATED = 0.15  # of the circle: how large the largest deviation is drawn
BINS, EACH = (
    24,
    12,
)  # positions across a micrograph's longer edge at most, and particles that a position should have


def defocus_figure(change: Array, sigma: Array, prior: float, at_end: int) -> Figure:
    """Histograms of the change of the mean defocus (n,) and of its standard error (n,), Å."""
    error = float(np.sqrt(np.mean(np.square(sigma))))
    subtitle = f"{len(change):,} particles, root mean square {np.sqrt(np.mean(change**2)):.0f} Å, standard error {error:.0f} Å"
    if at_end:
        subtitle += f"; {at_end:,} at the end of the search"
    figure = new_figure(8.2, 3.7, "Change of the defocus", subtitle)
    axes = add_panel(figure, 0.65, 0.5, 4.2, 2.5)
    reach = max(1.05 * float(np.abs(change).max()), 1.0)
    counts, edges = np.histogram(change, np.linspace(-reach, reach, 81))
    axes.stairs(counts, edges, color=style.BLUE, fill=True, alpha=0.25)
    axes.stairs(counts, edges, color=style.BLUE, linewidth=1.3)
    x = np.linspace(-reach, reach, 400)
    normal = np.exp(-0.5 * (x / prior) ** 2) / (prior * math.sqrt(2 * math.pi))
    text = f"prior, {prior:.0f} Å"
    axes.plot(x, normal * len(change) * (edges[1] - edges[0]), color=style.INK, lw=1, label=text)
    axes.set_xlim(-reach, reach)
    label(axes, "Change of the defocus (Å)", "Particles")
    legend(axes, loc="upper right")
    axes = add_panel(figure, 5.45, 0.5, 2.5, 2.5)
    top = max(1.1 * float(np.percentile(sigma, 99.5)), 1.0)
    counts, edges = np.histogram(sigma.clip(0, top), np.linspace(0, top, 41))
    axes.stairs(counts, edges, color=style.ORANGE, fill=True, alpha=0.25)
    axes.stairs(counts, edges, color=style.ORANGE, linewidth=1.3)
    axes.set_xlim(0, top)
    label(axes, "Standard error (Å)", "")
    return figure


def positions_figure(position: Array, change: Array) -> Figure:
    """Mean change of the defocus (n,) Å over the place in the micrograph (n, 2) px; a slope is a tilted or bent specimen."""
    edge = position.max(0)
    figure = new_figure(
        5.6, 5.2, "Change of the defocus over the micrograph", "Mean of all micrographs"
    )
    width, height = (4.0 * e / max(edge) for e in edge)
    axes = add_panel(figure, 0.7, 0.5, width, height)
    across = min(BINS, math.sqrt(len(change) / EACH))
    bins = [max(1, round(across * e / max(edge))) for e in edge]
    extent = [[0, edge[0]], [0, edge[1]]]
    x, y = position.T
    count, *_ = np.histogram2d(x, y, bins, extent)
    total, *_ = np.histogram2d(x, y, bins, extent, weights=change)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    top = max(float(np.nanpercentile(np.abs(mean), 98)), 1.0)
    look = {"origin": "lower", "cmap": "RdBu_r", "vmin": -top, "vmax": top}
    image = axes.imshow(mean.T, extent=(0, edge[0], 0, edge[1]), **look)
    label(axes, "x (px)", "y (px)")
    axes.grid(False)
    _bar(figure, image, 0.85 + width, 0.5, height, "Å")
    return figure


def phases_figure(
    title: str, shown: Mapping[str, tuple[Array, NDArray[np.complexfloating], Array]], limit: float
) -> Figure:
    """Phases in the images beside the fitted ones.

    shown: name ("odd", "even") -> place (m, 2) of each coefficient in Fourier pixels, measured weight x e^{i phase} (m,), fit (m,)
    in rad. limit: Å at the rim.
    """
    rows = len(shown)
    subtitle = f"Phase of images against prediction, rad; the rim is at {limit:.2f} Å"
    figure = new_figure(6.9, 0.75 + 2.95 * rows, title, subtitle)
    for number, (name, (place, measured, fitted)) in enumerate(shown.items()):
        bottom = 0.25 + 2.95 * (rows - 1 - number)
        data, fit, inside = _images(place, measured, fitted, odd=name == "odd")
        top = max(float(np.abs(fit).max()), 0.1)
        top = min(max(top, float(np.percentile(np.abs(data[inside]), 90))), math.pi)
        for column, (values, text) in enumerate(((data, "images"), (fit, "fit"))):
            axes = add_panel(figure, 0.3 + 2.95 * column, bottom, 2.6, 2.6)
            seen = np.where(inside, values, np.nan)
            image = axes.imshow(seen, origin="lower", cmap="RdBu_r", vmin=-top, vmax=top)
            axes.set_axis_off()
            axes.set_title(f"{name}: {text}", fontsize=8.5, color=style.INK, pad=2)
        _bar(figure, image, 6.1, bottom + 0.3, 2.0, "rad")
    return figure


def _images(
    place: Array, measured: NDArray[np.complexfloating], fitted: Array, odd: bool
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Measured and fitted phases on a square grid, and where there are any; the other half of the plane is added."""
    reach = int(np.ceil(np.abs(place).max())) + 1
    data = np.zeros((2 * reach + 1,) * 2, dtype=complex)
    fit, count = np.zeros(data.shape), np.zeros(data.shape)
    for sign in (1, -1):
        at = tuple((np.rint(sign * place).astype(int) + reach).T[::-1])
        flipped = odd and sign < 0
        np.add.at(data, at, measured.conj() if flipped else measured)
        np.add.at(fit, at, -fitted if flipped else fitted)
        np.add.at(count, at, 1)
    smooth = gaussian_filter(np.real(data), PHASE_BLUR) + 1j * gaussian_filter(
        np.imag(data), PHASE_BLUR
    )
    return np.angle(smooth), fit / np.maximum(count, 1), count > 0


def magnification_figure(matrices: Sequence[Array], names: Sequence[str]) -> Figure:
    """What the matrices M (2, 2) make of a circle, deviations exaggerated."""
    largest = max((float(np.abs(m - np.eye(2)).max()) for m in matrices), default=0.0)
    factor = EXAGGERATED / largest if largest > 0 else 1.0
    subtitle = f"Deviations from the circle drawn {factor:.0f} times as large"
    figure = new_figure(6.4, 4.5, "Anisotropic magnification", subtitle)
    axes = add_panel(figure, 0.7, 0.45, 3.4, 3.4)
    turn = np.linspace(0, 2 * np.pi, 361)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    axes.plot(*circle, color=style.FAINT, linewidth=0.8, linestyle=":")
    if largest == 0:
        empty_note(axes, "none")
    colours = (
        style.BLUE,
        style.VERMILION,
        style.GREEN,
        style.ORANGE,
        style.PURPLE,
        style.SKY,
    )
    for number, (matrix, name) in enumerate(zip(matrices, names, strict=True)):
        drawn = (np.eye(2) + factor * (matrix - np.eye(2))) @ circle
        high, low = np.linalg.svd(matrix)[1]
        text = f"{name}: {100 * (high / low - 1):.2f} %"
        axes.plot(*drawn, color=colours[number % len(colours)], linewidth=1.3, label=text)
    axes.set_aspect("equal")
    label(axes, "x", "y")
    legend(axes, loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


def _bar(figure: Figure, image, left: float, bottom: float, height: float, unit: str) -> None:
    bar = figure.colorbar(image, cax=add_panel(figure, left, bottom, 0.1, height))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, colors=style.INK, length=2)
    bar.set_label(unit, fontsize=8, color=style.INK)
