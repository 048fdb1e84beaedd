"""The picture of a local resolution: colours over slices of the map, and how much of the molecule has which."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor

from cryotorch.report import style
from cryotorch.report.maps import PLANES, central_slices
from cryotorch.report.style import add_panel, empty_note, label, limits, new_figure, scale_bar
from cryotorch.results import IterationResult

COLOURS = "viridis_r"  # sharp is bright
NO_VALUE = "#b0b0b0"
_TILE = 2.1  # inches


def local_resolution_figure(
    resolution: Tensor,
    volume: Tensor,
    mask: Tensor,
    pixel_size: float,
    title: str,
    subtitle: str = "",
    name: str = "Local resolution (Å)",
    ends: tuple[float, float] | None = None,
) -> Figure:
    """Resolution (or cutoff) (d, d, d) in Å where the mask is above 0.5, over slices of a volume, and its histogram.

    Infinite where nothing is said: no colour, and coarser than any for the median. ``ends`` of the colours, Å; None = those of
    ``colour_ends``.
    """
    figure = new_figure(8.8, 3.1, title, subtitle)
    inside = resolution[mask > 0.5].numpy()
    low, high = ends or colour_ends(inside)
    grey = central_slices(volume)
    scale = limits(np.stack(grey), (0.2, 99.8))
    colours, masks = central_slices(resolution), central_slices(mask)
    for place, plane in enumerate(PLANES):
        axes = add_panel(figure, 0.15 + place * (_TILE + 0.06), 0.15, _TILE, _TILE)
        axes.set_axis_off()
        look = {"origin": "lower", "extent": (0, 1, 0, 1)}
        axes.imshow(grey[place], cmap="gray", vmin=scale[0], vmax=scale[1], **look)
        seen = np.ma.masked_where(
            (masks[place] <= 0.5) | ~np.isfinite(colours[place]), colours[place]
        )
        axes.imshow(seen, cmap=COLOURS, vmin=low, vmax=high, alpha=0.75, **look)
        axes.set_title(plane, fontsize=9, color=style.INK, pad=3)
        if place == 0:
            scale_bar(axes, 0.05, 0.05, volume.shape[-1] * pixel_size)
    _histogram(add_panel(figure, 7.1, 0.55, 1.5, 1.7), inside, low, high, name)
    return figure


def colour_ends(inside: np.ndarray) -> tuple[float, float]:
    """Å, from where to where resolutions (n,) differ, but for the last percent on either side."""
    finite = inside[np.isfinite(inside)]
    return limits(finite, (1, 99)) if finite.size else (0.0, 1.0)


def chimerax_script(
    volume: str, resolution: str, inside: np.ndarray, ends: tuple[float, float] | None = None
) -> str:
    """Commands for ChimeraX: the map in one file coloured by the local resolution in another, and a key, Å.

    Files are named from the folder of the script, which ChimeraX goes to. What has no value, 0, is grey, as are all values well below the
    scale: next to the mask's border the surface lies between voxels with and without one. ``inside``: (n,) Å, for the ends of the scale.
    """
    low, high = ends or colour_ends(inside)
    places = np.linspace(0, 1, 5)
    stops = [(low + p * (high - low), to_hex(colormaps[COLOURS](p))) for p in places]
    palette = [f"0,{NO_VALUE}", f"{0.9 * low:.3f},{NO_VALUE}"]
    palette += [f"{value:.3f},{colour}" for value, colour in stops]
    key = " ".join(f"{colour}:{value:.1f}" for value, colour in stops)
    return (
        "# Open in a new session of ChimeraX. Colours: local resolution in Å; grey: no value.\n"
        f'open "{volume}"\nopen "{resolution}"\nhide #2 models\nvolume #1 step 1\n'
        f"color sample #1 map #2 palette {':'.join(palette)}\nkey {key}\n"
    )


def _histogram(axes: Axes, inside: np.ndarray, low: float, high: float, name: str) -> None:
    """Share of the masked voxels per resolution, in the colours of the slices."""
    label(axes, name, "")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if not inside.size:
        empty_note(axes, "empty mask")
        return
    margin = 0.1 * (high - low)
    counts, edges = np.histogram(inside[np.isfinite(inside)], 30, (low - margin, high + margin))
    heights = counts / max(counts.max(), 1)
    centres = (edges[1:] + edges[:-1]) / 2
    shades = colormaps[COLOURS](np.clip((centres - low) / (high - low), 0, 1))
    axes.bar(centres, heights, width=edges[1] - edges[0], color=shades)
    middle = float(np.median(inside))
    if math.isfinite(middle):
        axes.axvline(middle, color=style.VERMILION, linewidth=1.1)
        axes.set_title(f"median {middle:.1f} Å", fontsize=8, color=style.VERMILION, pad=3)
    axes.set_ylim(0, 1.05)


def cutoff(result: IterationResult) -> Figure:
    """The local cutoff of the non-uniform regulariser over slices of the map, within the FSC mask."""
    title = "Non-uniform regularisation: cutoff of the local filter"
    subtitle = f"Iteration {result.iteration}, inside the FSC mask"
    assert result.cutoff is not None
    volumes = (result.cutoff, result.map, result.mask_fsc)
    return local_resolution_figure(*volumes, result.pixel_size, title, subtitle, "Cutoff (Å)")
