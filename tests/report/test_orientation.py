from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.report import orientation

DIRECTIONS = fibonacci_directions(800)[:400]


def sphere_of(figure: Figure) -> tuple[np.ma.MaskedArray, tuple[float, float]]:
    (axes,) = (axes for axes in figure.axes if axes.name == "polar")
    mesh = axes.collections[0]
    return np.ma.masked_invalid(mesh.get_array()).reshape(45, 180), mesh.get_clim()


def resolution_figure(values: torch.Tensor, empty: torch.Tensor) -> Figure:
    return orientation.resolution_figure(DIRECTIONS, values, empty, 4.2, 3.0, "")


def test_resolution_lies_where_its_directions_are() -> None:
    """6 Å along z, 4 Å across: poles are coarse, the equator is fine, both halves of the sphere alike."""
    values = 4 + 2 * DIRECTIONS[:, 2] ** 2
    figure = resolution_figure(values, torch.zeros(400, dtype=torch.bool))
    panel, limits = sphere_of(figure)
    assert panel[-1].mean() == pytest.approx(6, abs=0.2)  # smoothed by a few degrees
    assert panel[0].mean() == pytest.approx(4, abs=0.1)
    assert limits == pytest.approx((panel.min(), panel.max()))  # what is to be seen


def test_empty_directions_are_dots() -> None:
    values, empty = torch.full((400,), 5.0), DIRECTIONS[:, 2] > 0.8
    figure = resolution_figure(values, empty)
    _, limits = sphere_of(figure)
    (axes,) = (axes for axes in figure.axes if axes.name == "polar")
    angle, radius = np.asarray(axes.collections[1].get_offsets()).T
    wanted = DIRECTIONS[empty].numpy()
    np.testing.assert_allclose(1 - radius**2, wanted[:, 2], atol=1e-6)  # equal areas
    across = radius * np.sqrt(2 - radius**2)
    np.testing.assert_allclose(across * np.cos(angle), wanted[:, 0], atol=1e-6)
    assert limits == pytest.approx((5, 5.75))  # colours do not blow up what is no difference


def test_sampling_is_relative_to_its_mean() -> None:
    slices = torch.where(DIRECTIONS[:, 2] < 0.5, 30.0, 0.0).double()
    figure = orientation.sampling_figure(DIRECTIONS, slices, "title", "")
    panel, limits = sphere_of(figure)
    assert panel[0].mean() == pytest.approx(2, abs=0.1)
    assert panel[-1].mean() == pytest.approx(0, abs=0.05)
    assert limits == (0, pytest.approx(2, abs=0.01))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "50.0% of the sphere without any slice (dots)" in titles


def test_the_band_spans_all_directions() -> None:
    shell = torch.arange(17.0, dtype=torch.float64)
    curves = torch.stack([1 / (1 + torch.exp(shell - at)) for at in (6.0, 8.0, 12.0)])
    figure = orientation.band_figure(curves, 0.2 * curves[0], curves[1], 32 * 2.5, 2.5, "title", "")
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(lines["Mean of all directions"], curves.mean(0))
    np.testing.assert_allclose(lines["All directions together"], curves[1])
    drawn = [np.asarray(line.get_ydata()) for line in figure.axes[0].get_lines()]
    for wanted in (curves[0], curves[2]):
        assert any(len(y) == 17 and np.allclose(y, wanted) for y in drawn)
