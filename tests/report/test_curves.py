from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryotorch.findings import Finding
from cryotorch.report import curves
from cryotorch.results import IterationResult

BOX, PIXEL = 32, 2.5


def texts(axes) -> list[str]:
    return [t.get_text() for t in axes.get_legend().get_texts()]


def test_fsc_figure_shows_the_curves_over_frequency(result: IterationResult) -> None:
    figure = curves.fsc(result)
    axes = figure.axes[0]
    lines = dict(zip(texts(axes), axes.get_lines()))
    corrected = lines["Corrected, 9.41 Å"]
    np.testing.assert_allclose(corrected.get_xdata(), np.arange(17) / (BOX * PIXEL))
    np.testing.assert_array_equal(corrected.get_ydata(), result.curves["corrected"].numpy())
    assert list(lines) == [
        *("No mask, 13.30 Å", "Spherical mask, 11.40 Å", "Loose mask, 10.00 Å"),
        *("Tight mask, 8.90 Å", "Corrected, 9.41 Å", "Randomised phases"),
    ]
    straight = [line.get_ydata()[0] for line in axes.get_lines() if len(set(line.get_ydata())) == 1]
    assert 0.143 in straight
    uprights = [line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1]
    assert pytest.approx(1 / 5.0) in uprights  # Nyquist
    assert "Nyquist 5.00 Å" in [t.get_text() for t in axes.texts]
    assert "9.41 Å" in figure.texts[0].get_text()


def test_fsc_figure_warns_when_the_pixels_are_too_large(result: IterationResult) -> None:
    flat = replace(result, curves={"corrected": torch.full((17,), 0.6)})
    assert any("0.60 at Nyquist" in t.get_text() for t in curves.fsc(flat).texts)
    assert not any("at Nyquist" in t.get_text() for t in curves.fsc(result).texts)


def test_fsc_figure_puts_its_dot_on_the_curve(result: IterationResult) -> None:
    falling = torch.tensor([1.0] * 8 + [0.243, 0.043] + [0.0] * 7)
    figure = curves.fsc_figure({"corrected": falling}, {"corrected": 10.0}, BOX, PIXEL, "", onset=6)
    (dot,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert dot.get_xdata()[0] == pytest.approx(8 / (BOX * PIXEL))  # 10 Å
    assert dot.get_ydata()[0] == pytest.approx(0.243)
    assert any("Dotted: random phases" in t.get_text() for t in figure.texts)
    places = [line.get_xdata()[0] for line in figure.axes[0].get_lines()]
    assert pytest.approx(6 / (BOX * PIXEL)) in places


def test_fsc_figure_marks_resolutions_at_the_end_of_a_curve() -> None:
    flat = {"corrected": torch.full((17,), 0.6)}
    figure = curves.fsc_figure(flat, {"corrected": 5.0}, BOX, PIXEL, "")
    assert texts(figure.axes[0]) == ["Corrected, ≤ 5.00 Å"]
    assert not [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]


def test_fsc_figure_names_no_resolution_where_none_is_claimed(result: IterationResult) -> None:
    none = replace(result, resolutions={**result.resolutions, "corrected": float("nan")})
    told = texts(curves.fsc(none).axes[0])
    assert not [text for text in told if "Å" in text] and "Corrected, nothing to claim" in told


def test_guinier_figure_draws_the_fitted_line(result: IterationResult) -> None:
    figure = curves.guinier(result)
    axes = figure.axes[0]
    line = next(
        line for line in axes.get_lines() if str(line.get_label()).startswith("fit, 10.0 to 6.2 Å")
    )
    x = line.get_xdata()
    np.testing.assert_allclose(x, (np.array([8, 13]) / (BOX * PIXEL)) ** 2, rtol=1e-6)
    np.testing.assert_allclose(line.get_ydata(), 5 - 30 * x, rtol=1e-6)  # B / 4 is the slope
    assert figure.texts[0].get_text() == "Guinier plot: applied B = −100.0 Å²"
    assert "fitted: −120.0 ± 6.0 Å²" in figure.texts[1].get_text()


def test_guinier_figure_tells_why_there_is_no_fit(result: IterationResult) -> None:
    few = Finding("fit_short", shells=3, coarsest=10.0, resolution=8.0)
    refused = replace(result.guinier, bfactor=None, reason=few, applied=0.0)
    figure = curves.guinier(replace(result, guinier=refused))
    said = ["Guinier plot: no fit", "No fit, of the shells only 3 lie between 10 Å and 8.0 Å"]
    assert [t.get_text() for t in figure.texts] == said
    (axes,) = figure.axes[:1]
    assert texts(axes) == ["shells"]  # no fitted ones, no line
    circles = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in circles] == [16]
    assert not axes.patches


def test_noise_figure_shows_median_and_range_of_the_groups(result: IterationResult) -> None:
    groups = torch.tensor([1.0, 2.0, 4.0])[None, :, None] * torch.ones(2, 3, 17)
    groups[:, :, 0] = 0  # shell 0 is unknown
    axes = curves.noise(replace(result, noise=groups)).axes[0]
    first, second = axes.get_lines()[:2]
    np.testing.assert_array_equal(first.get_ydata(), np.full(16, 2.0))
    np.testing.assert_array_equal(second.get_ydata(), np.full(16, 2.0))
    np.testing.assert_allclose(first.get_xdata()[0], 1 / (BOX * PIXEL))
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1, 4)
    assert texts(axes) == ["Half set A", "Half set B"]


def test_progress_figure_shows_the_history(result: IterationResult) -> None:
    figure = curves.progress(result)
    main, rotation, shift, seconds = figure.axes
    np.testing.assert_allclose(main.get_lines()[0].get_ydata(), [30, 15, 10, 7.5])
    np.testing.assert_allclose(main.get_lines()[1].get_ydata(), [33, 16.5, 11, 8.25])
    np.testing.assert_allclose(rotation.get_lines()[0].get_ydata(), [20, 10, 20 / 3, 5])
    np.testing.assert_allclose(shift.get_lines()[0].get_xdata(), [1, 2, 3, 4])
    assert seconds.get_ylim()[0] == 0
