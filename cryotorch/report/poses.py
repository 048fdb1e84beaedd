"""Figures of the particles: viewing directions, changes and uncertainties of the poses, scales."""

from __future__ import annotations

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from cryotorch.report import style
from cryotorch.report.sphere import bandwidth, smooth_density, sphere_grid, viewing_directions
from cryotorch.report.style import add_panel, empty_note, label, legend, log_axis, new_figure
from cryotorch.results import IterationResult


def orientations(result: IterationResult) -> Figure:
    """Density of viewing directions (uniform = 1) and, where known, the mean uncertainty of the rotation there."""
    particles = result.particles
    direction = viewing_directions(particles.rotation.numpy())
    error = np.degrees(particles.pose_sigma[:, 0].numpy())
    return viewing_figure(direction, error, None if result.group is None else result.group.numpy())


def viewing_figure(direction: np.ndarray, error: np.ndarray, group: np.ndarray | None) -> Figure:
    """The same for viewing directions (n, 3), uncertainties (n,) in degrees, 0 where not known, and rotations (g, 3, 3)."""
    n = len(direction)
    sigma = bandwidth(n)
    copies = 1 if group is None else len(group)
    if (
        group is not None and copies > 1
    ):  # a view stands for its symmetric copies; the search names only one of them
        direction = np.einsum("ni,gij->gnj", direction, group).reshape(-1, 3)
        error = np.tile(error, copies)
    at = sphere_grid(180, 90)[2]
    density = smooth_density(direction, None, at, sigma).clip(0)
    panels = [("Particles, relative to uniform", density, "viridis")]
    if (error > 0).any():
        spread = smooth_density(direction, error, at, sigma)
        mean = np.where(density > 0.05, spread / np.maximum(density, 1e-6), np.nan)
        panels.append(("Mean uncertainty of the rotation (°)", mean, "magma"))
    width = max(0.35 + 4.2 * len(panels), 6.8)  # room for the line below the title
    mates = f" in all {copies} symmetric copies" if copies > 1 else ""
    subtitle = f"{n:,} particles{mates}, smoothed by {np.degrees(sigma):.1f}°; longitude = rot, latitude = 90° − tilt"
    figure = new_figure(width, 3.55, "Viewing directions", subtitle)
    for place, (name, values, colours) in enumerate(panels):
        sphere_panel(figure, 0.4 + 4.2 * place, 0.5, values, name, colours)
    return figure


def sphere_panel(
    figure: Figure,
    left: float,
    bottom: float,
    values: np.ndarray,
    name: str,
    colours: str,
    limits: tuple[float, float] | None = None,
) -> None:
    """Values on ``sphere_grid(180, 90)`` as a Mollweide map with its colour bar, from zero up unless told otherwise."""
    lon, lat, _ = sphere_grid(180, 90)
    axes = add_panel(figure, left, bottom + 0.25, 3.9, 2.05, projection="mollweide")
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    low, high = (0, max(top, 1e-6)) if limits is None else limits
    look = {"cmap": colours, "vmin": low, "vmax": high, "rasterized": True}
    image = axes.pcolormesh(lon, lat, values, **look)
    axes.set_facecolor("#d5d9de")
    axes.set_xticks(np.radians([-120, -60, 0, 60, 120]), ["−120°", "−60°", "0°", "60°", "120°"])
    axes.set_yticks(np.radians([-60, -30, 0, 30, 60]), ["−60°", "−30°", "0°", "30°", "60°"])
    axes.tick_params(labelsize=7.5, colors=style.INK)
    for tick in axes.get_xticklabels():
        tick.set_color("white")
    axes.set_axisbelow(False)
    axes.grid(color="white", linewidth=0.5, alpha=0.45)
    axes.spines["geo"].set_linewidth(0.7)
    colour_bar(figure, image, left, bottom, name)


def hemisphere_panel(
    figure: Figure,
    left: float,
    bottom: float,
    values: np.ndarray,
    name: str,
    colours: str,
    limits: tuple[float, float],
    grey: np.ndarray,
) -> None:
    """Values on ``sphere_grid(180, 90)``, alike in opposite directions: the upper half from its pole, in equal areas.

    A direction t from the pole lies at sin(t/2) sqrt(2) from the middle (Lambert). Dots at ``grey`` (n, 3) unit vectors.
    """
    lon, lat, _ = sphere_grid(180, 90)
    axes = add_panel(figure, left + 0.85, bottom + 0.42, 2.2, 2.2, projection="polar")
    middle = len(lat) // 2
    radius = np.sqrt(1 - np.sin(lat[middle:]))
    look = {"cmap": colours, "vmin": limits[0], "vmax": limits[1], "rasterized": True}
    image = axes.pcolormesh(lon, radius, values[middle:], **look)
    if len(grey):
        upper = np.where(grey[:, 2:] < 0, -grey, grey)
        place = np.arctan2(upper[:, 1], upper[:, 0]), np.sqrt(1 - upper[:, 2])
        axes.scatter(*place, s=14, color="#d5d9de", edgecolors=style.INK, linewidths=0.4)
    axes.set_ylim(0, 1)
    axes.set_xticks(np.radians([0, 60, 120, 180, 240, 300]))
    axes.set_xticklabels(["0°", "60°", "120°", "180°", "−120°", "−60°"])
    axes.set_yticks(np.sqrt(1 - np.sin(np.radians([30, 60]))), ["30°", "60°"], color="white")
    axes.set_rlabel_position(90)  # pyright: ignore[reportAttributeAccessIssue]
    axes.tick_params(labelsize=7.5, pad=1)
    axes.set_axisbelow(False)
    axes.grid(color="white", linewidth=0.5, alpha=0.45)
    axes.spines["polar"].set_linewidth(0.7)
    colour_bar(figure, image, left, bottom, name)


def colour_bar(
    figure: Figure, image: ScalarMappable, left: float, bottom: float, name: str
) -> None:
    """Below a map of the sphere."""
    bar_axes = add_panel(figure, left + 0.7, bottom, 2.5, 0.1)
    bar = figure.colorbar(image, cax=bar_axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, colors=style.INK, length=2)
    bar.set_label(name, fontsize=8.5, color=style.INK, labelpad=2)


def departures(result: IterationResult) -> Figure:
    """How far a local search has taken the poses from where they started: over the initial viewing direction, and how often."""
    rotation, shift = result.departures.rotation.numpy(), result.departures.shift.numpy()
    direction = viewing_directions(result.departures.initial.numpy())
    sigma = bandwidth(len(direction))
    at = sphere_grid(180, 90)[2]
    density = smooth_density(direction, None, at, sigma).clip(0)
    title = "Poses: how far they have moved from where they started"
    subtitle = f"Iteration {result.iteration}, {len(rotation):,} particles; longitude = rot, latitude = 90° − tilt of the initial poses"
    figure = new_figure(8.75, 5.6, title, subtitle)
    panels = (
        (rotation, "rotation (°)", style.GREEN, result.departures.most_rotation),
        (shift, "shift (Å)", style.ORANGE, result.departures.most_shift),
    )
    for place, (values, name, colour, most) in enumerate(panels):
        spread = smooth_density(direction, values, at, sigma)
        mean = np.where(density > 0.05, spread / np.maximum(density, 1e-6), np.nan)
        sphere_panel(figure, 0.4 + 4.2 * place, 2.55, mean, f"Mean change of {name}", "magma")
        axes = add_panel(figure, 0.75 + 4.2 * place, 0.5, 3.3, 1.5)
        top = max(min(most, 1.15 * float(values.max())), 1e-6)
        counts, edges = np.histogram(values.clip(0, top), np.linspace(0, top, 61))
        axes.stairs(counts, edges, color=colour, fill=True, alpha=0.25)
        axes.stairs(counts, edges, color=colour, linewidth=1.3)
        axes.axvline(float(np.median(values)), color=style.INK, linewidth=1.1)
        text = f"median {np.median(values):.3g}, extent {most:.3g}"
        axes.set_title(text, fontsize=8, color=style.INK, loc="right", pad=3)
        axes.set_xlim(0, top)
        axes.set_ylim(bottom=0)
        label(axes, f"Change of {name}", "Particles" if place == 0 else "")
    return figure


def scales(result: IterationResult) -> Figure:
    """Histogram of the particles' contrast, one outline per half set."""
    figure = new_figure(6.0, 3.6, "Per-particle scales", f"Iteration {result.iteration}")
    axes = add_panel(figure, 0.65, 0.5, 5.1, 2.4)
    value, half = result.particles.scale.numpy(), result.particles.half.numpy()
    low, high = style.limits(value, (0.1, 99.9))
    middle, reach = (low + high) / 2, max((high - low) * 0.6, 0.05)
    edges = np.linspace(middle - reach, middle + reach, 61)
    for name, chosen, colour in _half_sets(half):
        picked = value[chosen]
        text = f"{name}: {picked.mean():.3f} ± {picked.std():.3f}"
        counts = np.histogram(picked.clip(edges[0], edges[-1]), edges)[0]
        axes.stairs(counts, edges, color=colour, fill=True, alpha=0.18)
        axes.stairs(counts, edges, color=colour, linewidth=1.4, label=text)
    axes.axvline(1, color=style.FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set_ylim(bottom=0)
    label(axes, "Scale (contrast relative to the mean)", "Particles")
    legend(axes, loc="upper right")
    return figure


def _half_sets(half: np.ndarray) -> list[tuple[str, np.ndarray, str]]:
    found = [(f"Half set {'AB'[h]}", half == h, c) for h, c in enumerate(style.HALF_COLOURS)]
    found = [row for row in found if row[1].any()]
    return found or [("All", np.ones(len(half), dtype=bool), style.BLUE)]


def pose_changes(result: IterationResult) -> Figure:
    """Histograms on a log axis: how far poses moved in this iteration, and how sure they are."""
    particles = result.particles
    title = "Poses: changes against the iteration before, and uncertainties"
    figure = new_figure(
        7.6, 4.9, title, f"Iteration {result.iteration}, {len(particles):,} particles"
    )
    panels = (
        (result.rotation_change.numpy(), "Rotation change (°)", style.GREEN, 1e-3, 180.0),
        (result.shift_change.numpy(), "Shift change (Å)", style.ORANGE, 1e-3, None),
        (
            np.degrees(particles.pose_sigma[:, 0].numpy()),
            "Rotation σ (°)",
            style.BLUE,
            1e-3,
            180.0,
        ),
        (particles.pose_sigma[:, 1].numpy(), "Shift σ (Å)", style.VERMILION, 1e-3, None),
    )
    for place, (values, name, colour, floor, ceiling) in enumerate(panels):
        left, bottom = 0.7 + 3.6 * (place % 2), 2.72 - 2.2 * (place // 2)
        axes = add_panel(figure, left, bottom, 3.0, 1.45)
        values = values[np.isfinite(values)]
        label(axes, name, "Particles" if place % 2 == 0 else "")
        if not (values > 0).any():
            axes.set_xticks([])
            axes.set_yticks([])
            empty_note(axes, "nothing moved" if place < 2 and len(values) else "not known")
            continue
        low = max(float(np.percentile(values, 0.5)), floor) / 1.5
        high = min(float(values.max()) * 1.2, ceiling or np.inf)
        edges = np.geomspace(low, max(high, 2 * low), 50)
        counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0]
        axes.stairs(counts, edges, color=colour, fill=True, alpha=0.25)
        axes.stairs(counts, edges, color=colour, linewidth=1.3)
        axes.set_xlim(edges[0], edges[-1])
        log_axis(axes, "x")
        median = float(np.median(values))
        axes.axvline(max(median, low), color=style.INK, linewidth=1.1)
        axes.set_title(f"median {median:.3g}", fontsize=8, color=style.INK, loc="right", pad=3)
        axes.set_ylim(bottom=0)
    return figure
