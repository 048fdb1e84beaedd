"""How images changed class from pass to pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from cryotorch.report import style
from cryotorch.report.style import add_panel, label, legend, new_figure


def flow_figure(shares: Tensor, changed: Tensor, names: Sequence[str]) -> Figure:
    """Shares of the classes (p, k), of these ``names``, after each pass, and the part of the images that changed class in it (p,)."""
    figure = new_figure(
        7.0, 3.6, "Classes, pass by pass", "share of the particles, and those that changed class"
    )
    axes = add_panel(figure, 0.65, 0.5, 4.4, 2.2)
    passes = np.arange(1, len(shares) + 1)
    for name, values in zip(names, shares.T.tolist(), strict=True):
        axes.plot(passes, values, linewidth=1.6, label=name)
    look = {"color": style.INK, "linewidth": 1.2, "linestyle": (0, (2, 2))}
    axes.plot(passes, changed.tolist(), label="changed class", **look)
    axes.set_ylim(0, 1)
    axes.set_xlim(1, max(2, len(shares)))
    label(axes, "Pass", "Part of the particles")
    legend(axes, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure
