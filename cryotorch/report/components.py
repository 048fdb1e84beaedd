"""Figures of components of variability: where particles lie along them, how well half sets agree on them; and the script that plays them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.report import style
from cryotorch.report.style import add_panel, angstrom_axis, label, legend, new_figure

BINS, MOST_POINTS = 60, 5000
PANEL, GAP = 2.3, 0.65  # inches
COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.ORANGE, style.PURPLE, style.SKY)


def coordinate_figure(position: np.ndarray, sigma: np.ndarray) -> Figure:
    """Histograms of coordinates (n, k) on the diagonal, pairs of them below it; ``sigma`` (n, k): their standard deviations."""
    n, k = position.shape
    size = k * PANEL + (k - 1) * GAP
    error = np.sqrt(np.square(sigma).mean(0))
    told = ", ".join(f"{value:.2g}" for value in error)
    figure = new_figure(
        max(5.2, size + 1.2), size + 1.4, "Coordinates of the particles",
        f"{n:,} particles; error of one coordinate: {told}",
    )  # fmt: skip
    some = np.linspace(0, n - 1, min(n, MOST_POINTS)).astype(int)
    for row in range(k):
        for column in range(row + 1):
            left, bottom = 0.8 + column * (PANEL + GAP), 0.5 + (k - 1 - row) * (PANEL + GAP)
            axes = add_panel(figure, left, bottom, PANEL, PANEL)
            if row == column:
                bins = np.histogram_bin_edges(position[:, row], BINS).tolist()
                axes.hist(position[:, row], bins, color=style.BLUE)
                label(axes, f"component {row + 1}", "particles")
                continue
            axes.scatter(
                position[some, column], position[some, row], s=3, alpha=0.35, color=style.BLUE,
                linewidths=0,
            )  # fmt: skip
            label(axes, f"component {column + 1}", f"component {row + 1}")
    return figure


def curve_figure(curve: Tensor, real: Tensor, edge: float, limit: float) -> Figure:
    """FSC (k, s) of the half sets' components, those that are ``real`` (k,) as full lines, up to a limit in Fourier pixels."""
    last = int(limit)
    figure = new_figure(
        5.6, 3.9, "Components of the two half sets",
        "FSC, each from one half set alone; noise has none",
    )  # fmt: skip
    axes = add_panel(figure, 0.7, 0.55, 4.5, 2.35)
    frequency = np.arange(1, last + 1) / edge
    for k, (line, is_real) in enumerate(zip(curve, real.tolist(), strict=True)):
        name = f"component {k + 1}" if is_real else f"{k + 1}, not real"
        look = "-" if is_real else ":"
        values = line[1 : last + 1].numpy()
        axes.plot(frequency, values, look, color=COLOURS[k % len(COLOURS)], label=name)
    axes.axhline(THRESHOLD, color=style.FAINT, linewidth=0.8)
    axes.set_xlim(0, last / edge)
    axes.set_ylim(-0.25, 1.03)
    label(axes, "Spatial frequency (1/Å)", "FSC")
    angstrom_axis(axes)
    legend(axes, loc="upper right")
    return figure


def frames_script(count: int, level: float) -> str:
    """Commands for ChimeraX: the frames of every component as a series, all with the surface at ``level``; the first one plays.

    Files are named from the folder of the script, which ChimeraX goes to.
    """
    lines = [
        "# Open in a new session of ChimeraX: maps along each component, played to and fro.",
        "# Another component: vseries stop #1; hide #1 models; show #2 models; vseries play #2 loop true direction oscillate",
    ]
    for number in range(1, count + 1):
        lines.append(f"open frames_{number}/frame_*.mrc vseries true name component_{number}")
        lines.append(f"volume #{number} level {level:.4g} step 1")
        if number > 1:
            lines.append(f"hide #{number} models")
    lines.append("vseries play #1 loop true direction oscillate maxFrameRate 10")
    return "\n".join(lines) + "\n"
