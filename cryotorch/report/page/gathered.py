"""What is made of the files of a run for a page: curves, maps, particles, figures; and what the caller says of the run besides."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import Image

from cryotorch.report import style
from cryotorch.report.page import curves, maps
from cryotorch.report.page.maps import Grid
from cryotorch.report.page.particles import ParticleNumbers, particles
from cryotorch.report.page.run_files import RunFiles

# Figures that the page draws itself where scripts run: they stand in for it where none do.
DRAWN = ("fsc", "slices", "mask", "orientations", "resolution", "scales", "viewing_directions")
PLAIN = (
    "fsc",
    "slices",
    "orientations",
    "viewing_directions",
)  # the ones shown for each of several runs
WIDEST_PICTURE, COLOURS = (
    1100,
    128,
)  # pixels; a figure with that many colours looks the same in a third of the bytes
MOST_PICTURES = 8
WHOLE = ("orientation_diagnostics",)  # a picture of the other pictures
RUN_COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.ORANGE, style.PURPLE, style.SKY)


class Parameter(NamedTuple):
    """A parameter of a run as text: name, value, default, whether it was changed, meaning."""

    name: str
    value: str
    default: str
    changed: bool
    meaning: str


class Command(NamedTuple):
    """What one may do next, and the command."""

    purpose: str
    command: str


@dataclass(frozen=True)
class RunPage:
    """What a page says of a run beyond its files: what the job does, its parameters, what to go on with, whose methods it used."""

    run: RunFiles
    about: str = ""
    parameters: Sequence[Parameter] = ()
    commands: Sequence[Command] = ()
    citations: Sequence[str] = ()


@dataclass(frozen=True)
class Gathered:
    """What was made of the files of a run."""

    page: RunPage
    colour: str
    fsc: dict[str, Any] | None
    history: dict[str, Any]
    grids: Sequence[Grid]
    tint: dict[str, Any] | None
    particles: ParticleNumbers | None
    pictures: dict[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For the scripts of the page."""
        seen = self.particles
        return {
            "name": self.page.run.name,
            "colour": self.colour,
            "fsc": self.fsc,
            "history": self.history,
            "maps": [grid.plain() for grid in self.grids],
            "tint": self.tint,
            "orientations": seen and seen.orientations,
            "histograms": list(seen.histograms) if seen else [],
        }


def gather(page: RunPage, runs: int = 1, number: int = 0) -> Gathered:
    """Read what a page of so many runs shows of one of them."""
    run = page.run
    wanted = PLAIN[:2] if runs > 1 else None
    return Gathered(
        page,
        RUN_COLOURS[number % len(RUN_COLOURS)],
        curves.fsc(run),
        curves.history(run),
        *maps.maps(run, runs),
        particles(run),
        _pictures(run, wanted),
    )


def _pictures(run: RunFiles, wanted: Sequence[str] | None) -> dict[str, str]:
    """Name -> data URL of the figures in the folder, made small."""
    places = [n for n in run.names if n.endswith(".png") and n.rpartition("/")[0] in ("", "plots")]
    found = {}
    for place in places:
        name = place.rpartition("/")[2].removesuffix(".png")
        if (
            name in WHOLE
            or (wanted is not None and name not in wanted)
            or len(found) == MOST_PICTURES + len(DRAWN)
        ):
            continue
        try:
            with Image.open(run.path / place) as image:
                small = image.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        small.thumbnail((WIDEST_PICTURE, 4 * WIDEST_PICTURE))
        buffer = io.BytesIO()
        small.quantize(COLOURS, Image.Quantize.FASTOCTREE).save(buffer, "png")
        text = base64.b64encode(buffer.getvalue()).decode()
        found[name] = f"data:image/png;base64,{text}"
    return found
