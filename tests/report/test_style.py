from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cryotorch.report.style import (
    DPI,
    add_panel,
    angstrom_axis,
    limits,
    log_axis,
    new_figure,
    render,
    scale_bar,
)


@pytest.mark.parametrize("power", [1, 2])
def test_angstrom_labels_stand_at_their_frequency(power: int) -> None:
    figure = new_figure(4, 3, "title")
    axes = add_panel(figure, 0.5, 0.5, 3, 2)
    axes.set_xlim(0, (1 / 3.0) ** power)
    angstrom_axis(axes, power)
    top = figure.axes[1]
    names = [float(t.get_text()) for t in top.get_xticklabels()]
    assert len(names) >= 4 and min(names) == 3
    np.testing.assert_allclose(top.get_xticks(), np.array(names) ** -power)
    assert top.get_xlim() == axes.get_xlim()
    assert np.diff(np.sort(top.get_xticks())).min() >= 0.07 * (1 / 3.0) ** power - 1e-12


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.09, 1.1, ["0.1", "0.2", "0.5", "1"]),
        (0.005, 200, ["0.01", "0.1", "1", "10", "100"]),
        (0.9, 1.35, ["0.9", "1", "1.1", "1.2", "1.3"]),
    ],
)
def test_log_axis_has_plain_labels_inside_the_range(low, high, expected) -> None:
    axes = add_panel(new_figure(4, 3, "title"), 0.5, 0.5, 3, 2)
    axes.set_ylim(low, high)
    log_axis(axes, "y")
    assert axes.get_yscale() == "log"
    assert [t.get_text() for t in axes.get_yticklabels()] == expected
    np.testing.assert_allclose(axes.get_yticks(), [float(v) for v in expected])


def test_scale_bar_has_its_length_in_angstrom() -> None:
    axes = add_panel(new_figure(3, 3, "title"), 0.5, 0.5, 2, 2)
    scale_bar(axes, 0.1, 0.1, 192.0)
    assert axes.texts[0].get_text() == "20 Å"
    assert np.ptp(axes.lines[-1].get_xdata()) == pytest.approx(20 / 192)


def test_limits_are_never_equal() -> None:
    assert limits(np.zeros(5), (1, 99)) == (-1, 1)
    assert limits(np.arange(101.0), (10, 90)) == (10, 90)


def test_render_gives_a_png_of_the_figures_size() -> None:
    picture = render(new_figure(3, 2, "A title", "below it"))
    image = Image.open(io.BytesIO(picture.png))
    assert image.format == "PNG" and image.size == (3 * DPI, 2 * DPI)
    assert (picture.width, picture.height) == image.size
    pixels = np.asarray(image)
    assert pixels[DPI:].min() == 255  # nothing but paper below the titles
    assert pixels[: DPI // 2].min() < 80
