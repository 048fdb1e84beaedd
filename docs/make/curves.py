"""FSC curves and masks, good and bad, of simulated particles at their true poses, so that the truth is known."""

from __future__ import annotations

import functools
from typing import Any

import look
import torch
from look import BLUE, FAINT, GREEN, ORANGE, RED
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import cryotorch as ct
from cryotorch.ops.resolution.fsc import phase_randomise, shell_correlation

PIXEL = 3.0
BOX = 64


@functools.cache
def halves(**changes: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Half maps (d, d, d) of simulated particles at their true poses, and the map that was projected."""
    import tempfile

    given = dict(n_particles=900, box_size=BOX, pixel_size=PIXEL, snr=0.08, seed=4) | changes
    made = ct.simulate(**given)
    with tempfile.TemporaryDirectory() as folder:
        made.save(folder)
        found = ct.reconstruct(f"{folder}/truth.star", regularize=False)
    return found.half_maps[0], found.half_maps[1], made.map


def legend(figure: Figure, axes: Axes) -> None:
    """One for all panels, below them."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def draw(axes: Axes, curves: dict[str, torch.Tensor], title: str, names: Any = look.CURVES) -> None:
    """FSC curves over frequency with the 0.143 line."""
    frequency = torch.arange(BOX // 2 + 1) / (BOX * PIXEL)
    axes.axhline(0, color=FAINT, lw=0.6)
    axes.axhline(0.143, color=FAINT, lw=0.8, ls=":")
    for name in names:
        said, colour, width, style = look.CURVES[name]
        axes.plot(frequency, curves[name], color=colour, lw=width, ls=style, label=said)
    look.resolution_axis(axes, PIXEL)
    axes.set_ylim(-0.15, 1.04)
    axes.set_title(title)


def masks() -> None:
    """Four masks on the same half maps: a hard one, a tight one, a good one and one that is too wide."""
    first, second, _ = halves()
    mean = (first + second) / 2
    density = dict(pixel_size=PIXEL, low_pass=15, threshold=0.3)
    cases = {
        "good: grown by 6 Å, edge of 15 Å": dict(dilate=6, soften=15),
        "bad: no soft edge": dict(dilate=6, soften=0),
        "bad: cuts the molecule, edge of 3 Å": dict(dilate=-6, soften=3),
        "too wide: grown by 30 Å": dict(dilate=30, soften=15),
    }
    figure = Figure(figsize=(10, 4.9))
    grid = figure.subplots(2, 4, height_ratios=[1, 1.15])
    for (title, given), (above, below) in zip(cases.items(), grid.T, strict=True):
        mask = ct.make_mask(mean, **density, **given)
        found = ct.fsc(first, second, pixel_size=PIXEL, mask=mask, optimize_mask=False)
        look.bare(above, title).imshow(mean[BOX // 2], cmap="gray_r", origin="lower")
        above.contour(mask[BOX // 2], [0.05, 0.5, 0.95], colors=[GREEN, RED, BLUE], linewidths=1)
        told = f"{found.resolution:.1f} Å claimed" if found.resolution > 0 else "nothing claimed"
        draw(below, found.curves, told)
    grid[1, 0].set_ylabel("FSC")
    legend(figure, grid[1, 0])
    look.save(figure, "masks.png", dpi=100)


def edges() -> None:
    """What a mask does to noise alone: the narrower its edge, the finer the detail that it makes up."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, BOX, BOX, BOX, generator=generator)
    _, _, truth = halves()
    figure = Figure(figsize=(5.4, 2.6))
    axes = figure.subplots()
    frequency = torch.arange(BOX // 2 + 1) / (BOX * PIXEL)
    smooth = noise + 4 * truth / truth.std()  # what both halves share is the coarse shape only
    for edge, colour in ((0, RED), (6, ORANGE), (15, GREEN), (25, BLUE)):
        mask = ct.make_mask(truth, PIXEL, low_pass=15, threshold=0.3, dilate=6, soften=edge)
        random = [phase_randomise(v, 8, generator) * mask for v in smooth]
        axes.plot(frequency, shell_correlation(*random), color=colour, label=f"edge of {edge} Å")
    axes.axvline(8 / (BOX * PIXEL), color=FAINT, lw=0.8)
    axes.text(8 / (BOX * PIXEL), 1.0, " phases random from here on", color=FAINT, fontsize=8)
    axes.axhline(0.143, color=FAINT, lw=0.8, ls=":")
    look.resolution_axis(axes, PIXEL)
    axes.set_ylabel("FSC in the mask")
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.93))
    look.save(figure, "mask_edges.svg")


def examples() -> None:
    """Six curves to know again."""
    figure = Figure(figsize=(10, 5.2))
    grid = figure.subplots(2, 3)
    first, second, _ = halves(bfactor=250)
    found = ct.fsc(first, second, pixel_size=PIXEL)
    draw(grid[0, 0], found.curves, f"as it should be: {found.resolution:.1f} Å")

    density = dict(pixel_size=PIXEL, low_pass=15, threshold=0.3)
    mask = ct.make_mask((first + second) / 2, **density, soften=3)
    found = ct.fsc(first, second, pixel_size=PIXEL, mask=mask, optimize_mask=False)
    draw(grid[0, 1], found.curves, "a notch where random phases begin")

    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(first.shape, generator=generator) * float((first - second).std()) * 0.6
    found = ct.fsc(first + shared, second + shared, pixel_size=PIXEL)
    draw(grid[0, 2], found.curves, "never falls: the halves share noise")

    mask = ct.make_mask((first + second) / 2, PIXEL, low_pass=8, threshold=0.45, soften=0)
    found = ct.fsc(first, second, pixel_size=PIXEL, mask=mask, optimize_mask=False)
    draw(grid[1, 0], found.curves, "a mask too tight and too hard")

    found = ct.fsc(
        *halves(defocus_min=15000, defocus_max=15001, astigmatism=0, snr=0.02)[:2], pixel_size=PIXEL
    )
    draw(grid[1, 1], found.curves, "bumps: all particles at one defocus")

    found = ct.fsc(*halves(snr=1.0)[:2], pixel_size=PIXEL)
    draw(grid[1, 2], found.curves, "ends at the pixels, not at the data")
    for axes in grid[:, 0]:
        axes.set_ylabel("FSC")
    legend(figure, grid[0, 0])
    look.save(figure, "fsc_examples.svg")


def make() -> None:
    masks()
    edges()
    examples()
