"""The picture of the front page: noisy images, the initial and the refined map, and the FSC, of a simulated set."""

from __future__ import annotations

import tempfile

import look
import torch
from look import FAINT
from matplotlib.figure import Figure

import cryotorch as ct

PIXEL, BOX = 3.0, 64
GIVEN = dict(box_size=BOX, pixel_size=PIXEL, symmetry="D2", n_particles=1500, snr=0.05, seed=4)


def make() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = ct.simulate(**GIVEN)
        made.save(folder)
        found = ct.refine(
            f"{folder}/particles.star", f"{folder}/initial.mrc", symmetry=GIVEN["symmetry"]
        )
        initial = ct.read_map(f"{folder}/initial.mrc").volume
    figure = Figure(figsize=(10, 2.75))
    places = figure.add_gridspec(2, 6, width_ratios=[1, 1, 2, 2, 0.1, 3.2])
    for i in range(4):
        axes = look.bare(figure.add_subplot(places[i // 2, i % 2]))
        axes.imshow(made.images[i], cmap="gray", vmin=-3, vmax=3.5)
        if i == 0:
            axes.set_title(f"{GIVEN['n_particles']:,} images, SNR {GIVEN['snr']}")
    view = look.turn(20, 65, 10)
    for place, volume, title in (
        (2, initial, "initial map, 30 Å"),
        (3, found.map, f"refined, {found.resolution:.1f} Å"),
    ):
        level = float(volume.flatten().sort().values[int(0.965 * volume.numel())])
        axes = look.bare(figure.add_subplot(places[:, place]), title)
        axes.imshow(look.surface(volume, level, view)[30:190, 30:190], origin="lower")
    axes = figure.add_subplot(places[:, 5])
    curves = found.result.curves
    frequency = torch.arange(BOX // 2 + 1) / (BOX * PIXEL)
    for name in ("no_mask", "tight", "corrected"):
        said, colour, width, style = look.CURVES[name]
        axes.plot(frequency, curves[name], color=colour, lw=width, ls=style, label=said)
    axes.axhline(0.143, color=FAINT, lw=0.8, ls=":")
    look.resolution_axis(axes, PIXEL)
    axes.set_ylim(-0.05, 1.04)
    axes.set_title("FSC of the half maps")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.2))
    look.save(figure, "refinement.png", dpi=120)
