"""Figures of components, and the script that plays them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cryotorch.report.components import coordinate_figure, curve_figure, frames_script
from cryotorch.report.style import render


def test_histograms_hold_every_particle_and_pairs_stand_below() -> None:
    draw = np.random.default_rng(0)
    position = draw.normal(size=(300, 3))
    figure = coordinate_figure(position, np.full((300, 3), 0.25))
    assert len(figure.axes) == 6  # three histograms, three pairs
    counts = [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes]
    assert sorted(counts) == [0, 0, 0, 300, 300, 300]
    assert render(figure).width > 700
    assert len(coordinate_figure(position[:, :1], np.ones((300, 1))).axes) == 1


def test_curves_end_at_the_limit() -> None:
    figure = curve_figure(torch.rand(2, 17), torch.tensor([True, False]), 160.0, 11.4)
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines[:2]] == ["component 1", "2, not real"]
    assert lines[0].get_xdata()[-1] == 11 / 160
    assert render(figure).height > 300


def test_the_script_opens_every_series_and_plays_the_first(
    check_chimerax: Callable[[str, Path], int], tmp_path: Path
) -> None:
    for number in (1, 2):
        (tmp_path / f"frames_{number}").mkdir()
        (tmp_path / f"frames_{number}" / "frame_000.mrc").touch()
    script = frames_script(2, 1.23e-05)
    assert check_chimerax(script, tmp_path) == 2
    said = frames_script(2, 0.0123).splitlines()
    assert said.count("vseries play #1 loop true direction oscillate maxFrameRate 10") == 1
    assert "volume #2 level 0.0123 step 1" in said and "hide #2 models" in said
    assert sum("vseries true" in row for row in said) == 2
