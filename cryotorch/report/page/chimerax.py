"""``view.cxc``: what a run made, opened in ChimeraX as one wants to see it first."""

from __future__ import annotations

from collections.abc import Sequence

from cryotorch.report import style
from cryotorch.report.page.maps import LABELS, Grid
from cryotorch.report.page.run_files import RunFiles

SCRIPT = "view.cxc"
COLOURED = "local_resolution.cxc"  # a script of some jobs that does the same with colours
FIRST = ("map_sharp.mrc", "map_local_filtered.mrc", "map.mrc")  # the map that is shown
SHADES = ("#b8c4d0", style.ORANGE, style.SKY, style.GREEN, style.PURPLE, style.VERMILION)
MASK = "#f0d9a8"


def view_script(run: RunFiles, grids: Sequence[Grid]) -> str | None:
    """Commands for ChimeraX: maps at their contour levels, masks as meshes, orientations; None where there is nothing to open.

    Files are named from the folder of the script, which ChimeraX goes to. Levels are those of the page: a share of the
    strongest density.
    """
    if run.has(COLOURED):
        return (run.path / COLOURED).read_text("utf-8")
    named = [grid for grid in grids if _can_be_quoted(grid.name)]
    maps = [grid for grid in named if grid.kind == "map" and grid.level is not None]
    masks = [grid for grid in named if grid.kind == "mask"]
    bild = [name for name in run.names if name.endswith(".bild") and _can_be_quoted(name)]
    if not maps and not masks and not bild:
        return None
    order = [name for name in FIRST if name in [grid.name for grid in maps]]
    if order:  # other versions of the same map lie below it
        shown = {order[0]} | {grid.name for grid in maps if grid.name not in LABELS}
    else:
        shown = {grid.name for grid in maps}
    lines = ["# Open in a new session of ChimeraX: in its command line, or with a double click."]
    number, seen = 0, 0
    for grid in maps:
        number += 1
        shade = SHADES[seen % len(SHADES)]
        seen += grid.name in shown
        lines.append(f'open "{grid.name}"')
        lines.append(f"volume #{number} level {value(grid):.5g} step 1 color {shade}")
        lines += [] if grid.name in shown else [f"hide #{number} models"]
    for grid in masks:
        number += 1
        lines.append(f'open "{grid.name}"')
        lines.append(f"volume #{number} style mesh level 0.5 step 2 color {MASK}")
        lines += [f"hide #{number} models"] if maps else []
    for name in bild:
        number += 1
        lines += [f'open "{name}"', f"hide #{number} models"]
    lines += ["lighting soft", "view"]
    return "\n".join(lines) + "\n"


def _can_be_quoted(name: str) -> bool:
    """Whether a name is no more than a name between the quotes of a command."""
    return '"' not in name and name.isprintable()


def value(grid: Grid) -> float:
    """The contour level of a map, in its own units."""
    assert grid.level is not None
    return grid.low + grid.level / 255 * (grid.high - grid.low)
