"""Figures over spatial frequency and over iterations: FSC, Guinier, noise, resolution."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.report import style
from cryotorch.report.sentences import say
from cryotorch.report.style import (
    add_panel,
    angstrom_axis,
    empty_note,
    label,
    legend,
    log_axis,
    new_figure,
)
from cryotorch.results import CURVES, Guinier, IterationResult, told

CLAIMED = (
    "corrected",
    "tight",
    "spherical",
    "no_mask",
)  # the first that is there is what is claimed

# Name in the legend, colour, line width, line style; the claimed curve stands out.
CURVE_LOOK = {
    "no_mask": ("No mask", style.BLUE, 1.3, "-"),
    "spherical": ("Spherical mask", style.SKY, 1.3, "-"),
    "loose": ("Loose mask", style.GREEN, 1.3, "-"),
    "tight": ("Tight mask", style.ORANGE, 1.3, "-"),
    "corrected": ("Corrected", style.INK, 2.2, "-"),
    "randomised": ("Randomised phases", style.FAINT, 1.0, (0, (3, 2))),
}


def frequencies(shells: int, pixel_size: float, box: int) -> np.ndarray:
    """(s,) 1/Å of shells 0 to d//2."""
    return np.arange(shells) / (box * pixel_size)


def fsc(result: IterationResult) -> Figure:
    """All FSC curves of an iteration."""
    title = f"Fourier shell correlation: {told(result.resolution)}"
    subtitle = f"Iteration {result.iteration}, half maps, FSC = {THRESHOLD} or noise"
    box = result.map.shape[-1]
    shown = result.curves, result.resolutions, box, result.pixel_size, title, subtitle
    return fsc_figure(*shown, band=result.band)


def fsc_figure(
    curves: Mapping[str, Tensor],
    resolutions: Mapping[str, float],
    box: int,
    pixel_size: float,
    title: str,
    subtitle: str = "",
    onset: int | None = None,
    band: Tensor | None = None,
) -> Figure:
    """FSC curves (d//2 + 1,) of a box d with their resolutions (Å), the 0.143 line and Nyquist.

    ``onset``: shell where random phases begin, which is marked: the corrected curve may show a notch there.
    ``band``: (d//2 + 1,) what noise stays below; what does not leave it resolves nothing. A resolution of NaN is not claimed, and then the other curves' are not
    shown either.
    """
    figure = new_figure(7.6, 4.2, title, subtitle)
    axes = add_panel(figure, 0.65, 0.5, 4.75, 2.6)
    nyquist = 0.5 / pixel_size
    claimed = next((n for n in CLAIMED if n in resolutions), None)
    claims = claimed is not None and math.isfinite(resolutions[claimed])
    for name in (n for n in CURVES if n in curves):
        text, colour, width, dashes = CURVE_LOOK[name]
        if name in resolutions:
            at_best = "≤ " if _ends_above(curves[name]) else ""
            known = claims and math.isfinite(resolutions[name])
            number = f", {at_best}{resolutions[name]:.2f} Å" if known else ""
            text += ", nothing to claim" if name == claimed and not claims else number
        x = frequencies(len(curves[name]), pixel_size, box)
        axes.plot(
            x, curves[name].numpy(), color=colour, linewidth=width, linestyle=dashes, label=text
        )
    if band is not None:
        x, look = frequencies(len(band), pixel_size, box), {"color": style.GRID, "linewidth": 0}
        axes.fill_between(x, -band.numpy(), band.numpy(), label="Noise, 3 errors", **look)
    axes.axhline(0, color=style.INK, linewidth=0.7)
    axes.axhline(THRESHOLD, color=style.VERMILION, linewidth=0.9)
    axes.text(
        0.012 * nyquist, THRESHOLD + 0.015, f"{THRESHOLD:g}", fontsize=8, color=style.VERMILION
    )
    axes.axvline(nyquist, color=style.FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
    note = f"Nyquist {1 / nyquist:.2f} Å"
    axes.text(1.012 * nyquist, 0.98, note, fontsize=8, color=style.FAINT, rotation=90, va="top")
    if claimed is not None and claims:
        _mark_claim(figure, axes, curves[claimed], resolutions[claimed], box * pixel_size)
    if onset is not None and "corrected" in curves and onset < len(curves["corrected"]):
        place = onset / (box * pixel_size)
        axes.axvline(place, color=style.FAINT, linewidth=0.9, linestyle=(0, (1, 2)))
        sentence = "Dotted: random phases\nbegin; a notch of the\ncorrected curve there\nis theirs, not the map's"
        figure.text(0.735, 0.31, sentence, fontsize=8, color=style.FAINT)
    lowest = min(float(c.nan_to_num().min()) for c in curves.values())
    axes.set_ylim(max(-0.3, min(-0.06, lowest - 0.03)), 1.03)
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    axes.set_xlim(0, 1.05 * nyquist)
    label(axes, "Spatial frequency (1/Å)", "FSC")
    angstrom_axis(axes)
    legend(axes, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def _mark_claim(figure: Figure, axes: Axes, curve: Tensor, resolution: float, edge: float) -> None:
    """The last shell before the curve falls below the threshold, as in RELION, or into the noise."""
    if _ends_above(curve):
        sentence = f"FSC is still {float(curve[-1]):.2f} at Nyquist:\nextract with smaller pixels"
        figure.text(0.735, 0.2, sentence, fontsize=8, color=style.VERMILION)
    else:
        shell = round(edge / resolution)
        place = shell / edge, float(curve[shell])
        axes.plot(*place, "o", color=style.VERMILION, markersize=5, zorder=5)


def _ends_above(curve: Tensor) -> bool:
    return bool((curve[1:] >= THRESHOLD).all())


def guinier(result: IterationResult) -> Figure:
    """The Guinier plot of an iteration."""
    return guinier_figure(result.guinier, f"Iteration {result.iteration}")


def guinier_figure(fit: Guinier, subtitle: str = "", title: str | None = None) -> Figure:
    """ln(mean |F|) over 1/d^2, the shells of the fit, and its line; where there is none, all shells alike, and why."""
    done = fit.bfactor is not None
    if title is None:
        title = f"Guinier plot: applied B = {fit.applied:.1f} Å²"
        if not done and not fit.applied:
            title = "Guinier plot: no fit"
        elif done:
            spread = "" if fit.error is None else f" ± {fit.error:.1f}"
            subtitle = f"{subtitle}{', ' if subtitle else ''}fitted: {fit.bfactor:.1f}{spread} Å²"
    subtitle = subtitle.replace(" -", " \N{MINUS SIGN}")
    title = title.replace("-", "\N{MINUS SIGN}")
    figure = new_figure(6.0, 4.2, title, f"No fit, {say(fit.reason)}" if fit.reason else subtitle)
    axes = add_panel(figure, 0.65, 0.5, 5.1, 2.6)
    x, y = fit.inverse_d2.numpy(), fit.log_amplitude.numpy()
    used = fit.used.numpy() & done
    shown = np.isfinite(y) & (x > 0)
    rest = shown & ~used
    axes.plot(x[shown], y[shown], color=style.SKY, linewidth=1.0)
    axes.plot(
        x[rest],
        y[rest],
        "o",
        markersize=4,
        markerfacecolor="white",
        markeredgecolor=style.BLUE,
        markeredgewidth=0.9,
        label="not in the fit" if done else "shells",
    )
    if done:
        ends = x[used][[0, -1]]
        axes.axvspan(*ends, color=style.ORANGE, alpha=0.13, linewidth=0)
        axes.plot(x[used], y[used], "o", color=style.BLUE, markersize=4.5, label="in the fit")
        line = fit.intercept + fit.bfactor / 4 * ends
        span = f"{ends[0] ** -0.5:.1f} to {ends[-1] ** -0.5:.1f} Å"
        axes.plot(ends, line, color=style.VERMILION, linewidth=2, label=f"fit, {span}")
    axes.set_xlim(0, max(float(x.max()) * 1.02, 1e-9))
    label(axes, "1/d² (1/Å²)", "ln (mean amplitude)")
    angstrom_axis(axes, power=2)
    legend(axes, loc="upper right")
    return figure


def noise(result: IterationResult) -> Figure:
    """Noise power per shell: one line per half set, the spread over optics groups as a band."""
    power = result.noise.numpy()
    groups = power.shape[1]
    subtitle = f"Iteration {result.iteration}, variance of a Fourier coefficient"
    if groups > 1:
        subtitle += f", median and range of {groups} optics groups"
    figure = new_figure(6.0, 4.2, "Noise spectra of the half sets", subtitle)
    axes = add_panel(figure, 0.65, 0.5, 5.1, 2.6)
    x = frequencies(power.shape[-1], result.pixel_size, result.map.shape[-1])
    for half, colour in enumerate(style.HALF_COLOURS):
        y = np.where(power[half] > 0, power[half], np.nan)
        shown = np.isfinite(y).any(0)
        if not shown.any():
            continue
        f, y = x[: y.shape[1]][shown], y[:, shown]
        if groups > 1:
            axes.fill_between(f, np.nanmin(y, 0), np.nanmax(y, 0), color=colour, alpha=0.15, lw=0)
        dashes = "-" if half == 0 else (0, (4, 2))
        name = f"Half set {'AB'[half]}"
        axes.plot(f, np.nanmedian(y, 0), color=colour, linewidth=1.6, linestyle=dashes, label=name)
    if axes.get_lines():
        log_axis(axes, "y")
    else:
        empty_note(axes, "not known")
    axes.set_xlim(0, x[-1])
    label(axes, "Spatial frequency (1/Å)", "Noise power σ²")
    angstrom_axis(axes)
    legend(axes, loc="upper right")
    return figure


def progress(result: IterationResult) -> Figure:
    """Resolution, changes of the poses and seconds over the iterations."""
    history = result.history
    title = f"Resolution per iteration: {told(result.resolution)}"
    figure = new_figure(7.6, 4.2, title, f"After iteration {result.iteration}")
    step = np.array([row["iteration"] for row in history])

    def series(name: str) -> np.ndarray:
        return np.array([row.get(name, np.nan) for row in history], dtype=float)

    axes = add_panel(figure, 0.65, 0.5, 3.75, 3.0)
    axes.plot(step, series("resolution"), "o-", color=style.INK, markersize=4, label="corrected")
    if np.isfinite(series("limit")).any():
        look = {"color": style.SKY, "linewidth": 1.4, "linestyle": (0, (3, 2))}
        axes.plot(step, series("limit"), label="limit of the alignment", **look)
    nyquist = 2 * result.pixel_size
    axes.axhline(nyquist, color=style.FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
    look = {"fontsize": 8, "color": style.FAINT, "va": "top"}
    axes.text(0.7, 0.97 * nyquist, f"Nyquist {nyquist:.2f} Å", **look)
    label(axes, "Iteration", "Resolution (Å)")
    legend(axes, loc="upper right")
    small = (
        ("rotation_change", "Rotation change (°)", style.GREEN, "log"),
        ("shift_change", "Shift change (Å)", style.ORANGE, "log"),
        ("seconds", "Seconds", style.PURPLE, "linear"),
    )
    for place, (name, text, colour, scale) in enumerate(small):
        panel = add_panel(figure, 5.05, 2.72 - 1.11 * place, 2.35, 0.78)
        y = series(name)
        shown = np.isfinite(y) & ((y > 0) | (scale == "linear"))
        panel.plot(step[shown], y[shown], "o-", color=colour, markersize=3, linewidth=1.2)
        panel.set_title(text, fontsize=8, color=style.INK, loc="left", pad=3)
        panel.grid(color=style.GRID, linewidth=0.6)
        if scale == "log" and shown.any():
            log_axis(panel, "y")
        else:
            panel.set_ylim(bottom=0)
        panel.tick_params(labelbottom=place == 2)
        panel.set_xlim(*_whole_steps(step))
        panel.xaxis.get_major_locator().set_params(integer=True)  # pyright: ignore[reportCallIssue]
    axes.set_xlim(*_whole_steps(step))
    axes.xaxis.get_major_locator().set_params(integer=True)  # pyright: ignore[reportCallIssue]
    axes.set_ylim(bottom=0)
    return figure


def _whole_steps(step: np.ndarray) -> tuple[float, float]:
    last = float(step[-1]) if len(step) else 1.0
    return 0.6, max(last, 2.0) + 0.4
