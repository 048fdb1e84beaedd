"""Figures of orientation diagnostics: conical FSC, directional resolution, sampling of Fourier space."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.report import style
from cryotorch.report.curves import frequencies
from cryotorch.report.poses import hemisphere_panel
from cryotorch.report.sphere import bandwidth, smooth_density, sphere_grid
from cryotorch.report.style import add_panel, angstrom_axis, label, legend, new_figure
from cryotorch.results import told

FIGURE_WIDTH = 8.75  # inches, of all of them
MIN_COLOUR_SPAN = 0.15  # of the finest resolution that the colours span at least: less is no matter


def band_figure(
    curves: Tensor,
    noise: Tensor,
    fsc: Tensor,
    edge: float,
    pixel_size: float,
    title: str,
    subtitle: str,
) -> Figure:
    """Conical FSC (n, s) of a box of ``edge`` Å: range, middle 90 % and mean of all directions, what noise in a cone reaches (s,), and the FSC (s,)."""
    figure = new_figure(FIGURE_WIDTH, 4.2, title, subtitle)
    axes = add_panel(figure, 0.65, 0.5, 5.7, 2.6)
    x = frequencies(curves.shape[1], pixel_size, round(edge / pixel_size))
    y = curves.numpy()
    look: dict[str, Any] = {"linewidth": 0}
    axes.fill_between(x, y.min(0), y.max(0), color=style.SKY, alpha=0.3, label="All", **look)
    axes.fill_between(
        x, 0, noise.numpy(), color=style.FAINT, alpha=0.18, label="Noise in a cone", **look
    )
    low, high = np.percentile(y, (5, 95), axis=0)
    axes.fill_between(x, low, high, color=style.BLUE, alpha=0.3, label="90 % of them", **look)
    worst, best = y.min(0), y.max(0)
    axes.plot(x, best, color=style.SKY, linewidth=0.9)
    axes.plot(x, worst, color=style.SKY, linewidth=0.9)
    axes.plot(x, y.mean(0), color=style.BLUE, linewidth=1.6, label="Mean of all directions")
    axes.plot(x, fsc.numpy(), color=style.INK, linewidth=1.6, label="All directions together")
    axes.axhline(0, color=style.INK, linewidth=0.7)
    axes.axhline(THRESHOLD, color=style.VERMILION, linewidth=0.9)
    axes.text(0.012 * x[-1], THRESHOLD + 0.015, f"{THRESHOLD:g}", fontsize=8, color=style.VERMILION)
    axes.set_xlim(0, 1.02 * x[-1])
    axes.set_ylim(max(-0.5, min(-0.06, float(y.min()) - 0.03)), 1.03)
    label(axes, "Spatial frequency (1/Å)", "FSC")
    angstrom_axis(axes)
    legend(axes, loc="upper left", bbox_to_anchor=(1.01, 1.0), title="Directions")
    axes.get_legend().get_title().set(fontsize=8.5, color=style.INK)
    return figure


def resolution_figure(
    directions: Tensor,
    resolutions: Tensor,
    empty: Tensor,
    overall: float,
    nyquist: float,
    subtitle: str,
) -> Figure:
    """Directional resolution (n,) in Å, NaN where there is none, at +- directions (n, 3): map of the sphere, and how often each occurs.

    The colours span what the map shows, which is smoothed. Directions that are ``empty`` (n,) are grey dots.
    """
    known = resolutions.isfinite().numpy()
    values = resolutions.numpy()[known]
    figure = new_figure(FIGURE_WIDTH, 3.95, "Resolution by direction", subtitle)
    best, worst = float(values.min()), float(values.max())
    limits = best, max(worst, (1 + MIN_COLOUR_SPAN) * best)
    panel = _on_sphere(directions.numpy()[known], values)
    shown = max(float(panel.min()), best), min(float(panel.max()), worst)
    shown = shown[0], max(shown[1], (1 + MIN_COLOUR_SPAN) * shown[0])
    name = f"Resolution (Å), FSC = {THRESHOLD:g} or noise"
    grey = directions[empty].numpy()
    hemisphere_panel(figure, 0.4, 0.5, panel, name, "viridis", shown, grey)
    axes = _histogram(figure, values, np.linspace(*limits, 41), style.BLUE)
    axes.axvline(overall, color=style.INK, linewidth=1.3, label=f"all together {told(overall)}")
    label(axes, "Resolution (Å)", "Directions")
    said = f"{best:.2f} to {worst:.2f} Å"
    ended = float((values <= 1.0001 * nyquist).mean())
    if ended:
        said += f", Nyquist in {ended:.0%} of the directions"
    axes.set_title(said, fontsize=8, color=style.INK, loc="left", pad=3)
    legend(axes, loc="upper right")
    return figure


def sampling_figure(directions: Tensor, slices: Tensor, title: str, subtitle: str) -> Figure:
    """Slices per point (n,) at +- directions (n, 3) over their mean: map of the sphere, and how often each occurs."""
    relative = (slices / slices.mean()).numpy()
    figure = new_figure(FIGURE_WIDTH, 3.95, title, subtitle)
    values = _on_sphere(directions.numpy(), relative)
    top = max(float(relative.max()), 1.5)
    name = "Slices through a point, relative to the mean"
    none = directions[slices == 0].numpy()
    hemisphere_panel(figure, 0.4, 0.5, values, name, "cividis", (0, min(top, 3.0)), none)
    mean = float(slices.mean())
    step = max(
        1, round(min(top, 6.0) * mean / 40)
    )  # whole slices: other bins would hold now more of them, now fewer
    edges = (np.arange(0, min(top, 6.0) * mean + step + 1, step) - 0.5) / mean
    axes = _histogram(figure, relative, edges, style.GREEN)
    axes.axvline(1, color=style.INK, linewidth=1.3, label="uniform views")
    label(axes, name, "Points")
    empty = float((relative == 0).mean())
    said = (
        f"{empty:.1%} of the sphere without any slice (dots)"
        if empty
        else "no point without a slice"
    )
    axes.set_title(said, fontsize=8, color=style.INK, loc="left", pad=3)
    legend(axes, loc="upper right")
    return figure


def _histogram(figure: Figure, values: np.ndarray, edges: np.ndarray, colour: str) -> Axes:
    """Counts on the right of a sphere; what lies outside is counted at the ends."""
    axes = add_panel(figure, 5.1, 0.6, 3.35, 2.45)
    counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0]
    axes.stairs(counts, edges, color=colour, fill=True, alpha=0.25)
    axes.stairs(counts, edges, color=colour, linewidth=1.3)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    return axes


def _on_sphere(directions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values (n,) at directions and their opposites, interpolated onto ``sphere_grid(180, 90)``."""
    both, twice = np.concatenate([directions, -directions]), np.tile(values, 2)
    at, sigma = sphere_grid(180, 90)[2], bandwidth(2 * len(values))
    mean = float(
        values.mean()
    )  # left out of the sums: what rounding adds is small against the rest
    share = smooth_density(both, twice - mean, at, sigma) / smooth_density(both, None, at, sigma)
    return mean + share
