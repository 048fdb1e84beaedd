"""Picture of a selection of particles: how many each step left, and what went, by the values of columns."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cryotorch.report import style
from cryotorch.report.style import add_panel, label, legend, new_figure

MOST_PANELS, BINS = 6, 60
WIDE, HIGH, ROW = 2.5, 1.7, 0.24  # inches, of a panel and of a bar


def selection(
    steps: list[tuple[str, int]], panels: dict[str, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """Bars of how many particles were left after each step, and histograms of columns: all (n,) and those that stayed (m,)."""
    columns = min(3, max(1, len(panels)))
    rows = -(-len(panels) // columns)
    bars = 0.35 + ROW * len(steps)
    width = max(6.2, 0.75 + columns * (WIDE + 0.75))
    height = 0.75 + bars + rows * (HIGH + 0.85)
    last, first = steps[-1][1], steps[0][1]
    figure = new_figure(width, height, "Particles", f"{first:,} at first, {last:,} in the end")
    axes = add_panel(figure, 1.6, height - 0.6 - bars, width - 2.7, bars - 0.1)
    place = np.arange(len(steps))
    axes.barh(place, [count for _, count in steps], color=style.SKY, height=0.7)
    for at, (_, count) in enumerate(steps):
        axes.text(count, at, f" {count:,}", va="center", fontsize=8, color=style.INK)
    axes.set_yticks(place, [name for name, _ in steps])
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_ylim(len(steps) - 0.5, -0.5)
    for number, (name, (every, kept)) in enumerate(panels.items()):
        left = 0.65 + (number % columns) * (WIDE + 0.75)
        bottom = 0.55 + (rows - 1 - number // columns) * (HIGH + 0.85)
        panel = add_panel(figure, left, bottom, WIDE, HIGH)
        edges = np.histogram_bin_edges(_core(every), BINS)
        bins: list[float] = edges.tolist()
        inside = [np.clip(values, edges[0], edges[-1]) for values in (every, kept)]
        panel.hist(inside[0], bins, color="#c9ced4", label="all")
        panel.hist(inside[1], bins, color=style.BLUE, alpha=0.75, label="stay")
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.ticklabel_format(axis="y", scilimits=(0, 4), useMathText=True)
        panel.yaxis.get_offset_text().set_fontsize(7)
        label(panel, name, "particles" if number % columns == 0 else "")
        if number == 0:
            legend(panel, loc="upper left", bbox_to_anchor=(0, 1.22), ncols=2)
    return figure


def _core(values: np.ndarray) -> np.ndarray:
    """Values (n,) without the farthest of them, which stand in the outermost bins then."""
    low, high = np.percentile(values, (0.1, 99.9))
    return values[(values >= low) & (values <= high)]
