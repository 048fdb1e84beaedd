"""Figures of a CTF refinement: drawn for what a job has, with its numbers in them."""

from __future__ import annotations

import numpy as np
import pytest

from cryotorch.report import ctf
from cryotorch.report.style import render


def test_defocus() -> None:
    draw = np.random.default_rng(0)
    change, sigma = draw.normal(0, 150, 500), draw.uniform(20, 40, 500)
    figure = ctf.defocus_figure(change, sigma, 150.0, 3)
    said = " ".join(t.get_text() for t in figure.texts)
    assert f"{np.sqrt(np.mean(change**2)):.0f} Å" in said and "3 at the end" in said
    assert render(figure).width > 500


def test_positions_show_a_tilted_specimen() -> None:
    draw = np.random.default_rng(0)
    position = draw.uniform(0, [4000, 3000], (2000, 2))
    figure = ctf.positions_figure(position, 0.1 * (position[:, 0] - 2000))
    shown = figure.axes[0].get_images()[0].get_array().filled(np.nan)
    assert shown.shape[1] > shown.shape[0]
    assert np.nanmean(shown[:, 0]) < -150 and np.nanmean(shown[:, -1]) > 150
    ctf.positions_figure(position[:5], np.zeros(5))  # few particles: one coarse picture


@pytest.mark.parametrize("odd", [True, False])
def test_phases_fill_the_whole_plane(odd: bool) -> None:
    k = np.stack(np.meshgrid(np.arange(0, 12), np.arange(-12, 13)), -1).reshape(-1, 2)
    k = k[((k[:, 0] > 0) | (k[:, 1] > 0)) & (np.hypot(*k.T) < 12)].astype(float)
    fit = 1e-3 * (k[:, 0] ** 3 if odd else k[:, 0] ** 2 * 8)
    data, fitted, inside = ctf._images(k, 2 * np.exp(1j * fit), fit, odd)
    assert inside.sum() == 2 * len(k)
    middle = len(data) // 2
    assert fitted[middle, middle + 8] == pytest.approx(0.512)
    assert fitted[middle, middle - 8] == pytest.approx(-0.512 if odd else 0.512)
    assert (
        np.abs(data - fitted)[inside & (np.abs(fitted) < 0.5)].max() < 0.25
    )  # but for the smoothing
    name = "odd" if odd else "even"
    figure = ctf.phases_figure("Optics group a", {name: (k, np.exp(1j * fit), fit)}, 3.2)
    assert "3.20 Å" in " ".join(t.get_text() for t in figure.texts)


def test_magnification() -> None:
    figure = ctf.magnification_figure([np.array([[1.01, 0], [0, 1.0]]), np.eye(2)], ["a", "b"])
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels == ["a: 1.00 %", "b: 0.00 %"]
    assert "15 times" in " ".join(t.get_text() for t in figure.texts)
