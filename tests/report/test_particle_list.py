"""The picture of a selection: the bars are the counts, the histograms hold every particle."""

from __future__ import annotations

import numpy as np

from cryotorch.report.particle_list import BINS, selection
from cryotorch.report.style import render


def test_bars_and_histograms() -> None:
    draw = np.random.default_rng(0)
    every = np.append(draw.normal(1, 0.2, 500), 1e6)  # and one far away
    kept = every[every > 1]
    figure = selection([("particles", 501), ("where", len(kept))], {"scale": (every, kept)})
    bars, panel = figure.axes
    assert [bar.get_width() for bar in bars.patches] == [501, len(kept)]
    heights = np.array([bar.get_height() for bar in panel.patches]).reshape(2, BINS)
    assert heights.sum(1).tolist() == [501, len(kept)]
    assert (heights > 0).sum() > BINS  # the far one does not take the axis
    assert render(figure).width > 500


def test_no_columns_and_columns_of_one_value() -> None:
    bars = selection([("particles", 3)], {})
    assert len(bars.axes) == 1
    same = np.ones(5)
    assert len(selection([("particles", 5)], {f"c{i}": (same, same) for i in range(6)}).axes) == 7
