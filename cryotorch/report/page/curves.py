"""The curves of a run as numbers for a page: FSC, of each iteration too, and what changed from iteration to iteration."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from cryotorch.report import style
from cryotorch.report.curves import CURVE_LOOK
from cryotorch.report.fsc_files import TEXT_COLUMNS
from cryotorch.report.page.run_files import RunFiles, number
from cryotorch.results import CURVES

MOST_ITERATIONS = 60  # whose FSC is kept; of more, the last ones
# Colours that are dark or light as the page is.
INK, FAINT = "ink", "faint"
_OF_THEME = {style.INK: INK, style.FAINT: FAINT}
# Entry of a row of the history -> title of the column, unit, digits, colour.
HISTORY = {
    "resolution": ("Resolution", "Å", 2, INK),
    "limit": ("Limit of the alignment", "Å", 2, style.SKY),
    "particles": ("Particles", "", 0, style.BLUE),
    "rotation_change": ("Rotation change, median", "°", 3, style.GREEN),
    "shift_change": ("Shift change, median", "Å", 3, style.ORANGE),
    "seconds": ("Time", "s", 1, style.PURPLE),
}


def fsc(run: RunFiles) -> dict[str, Any] | None:
    """The curves of ``fsc.txt`` with their looks, and of all iterations; None where there are none.

    ``edge`` is that of the box, Å: shell s lies at s / edge.
    """
    columns = _read_table(run.path / "fsc.txt")
    box, pixel_size = (number(run.summary.get(name)) for name in ("box", "pixel_size"))
    edge = number((box or 0) * (pixel_size or 0))
    if not columns or not edge or not pixel_size:
        return None
    found: dict[str, Any] = {}
    resolutions = run.summary.get("resolutions")
    known = resolutions if isinstance(resolutions, dict) else {}
    by_curve = {curve: column for column, curve in TEXT_COLUMNS.items()}
    for name in CURVES:
        values = columns.get(by_curve[name])
        if values is None:
            continue
        text, colour, width, dashes = CURVE_LOOK[name]
        found[name] = {
            "label": text,
            "colour": _OF_THEME.get(colour, colour),
            "width": width,
            "dash": [] if dashes == "-" else [5, 4],
            "values": [1.0, *values],
            "resolution": number(known.get(name)),
            "judged": name in known,
        }
    if "corrected" in found and "resolution" in run.summary:  # what is claimed, if anything is
        claimed = number(run.summary["resolution"])
        found["corrected"]["resolution"] = claimed
        if claimed is None:
            found = {name: {**curve, "resolution": None} for name, curve in found.items()}
    return {
        "edge": edge,
        "nyquist": 2 * pixel_size,
        "threshold": number(run.summary.get("threshold")) or 0.143,
        "curves": found,
        "band": [1.0, *columns["noise_band"]] if "noise_band" in columns else [],
        "iterations": _iterations(run),
    }


def _read_table(path: Path) -> dict[str, list[float]]:
    """Columns of a table of tab-separated numbers below their names; {} where it is none, or one is not finite."""
    try:
        head, *lines = path.read_text("utf-8").splitlines()
        rows = [[float(v) for v in line.split("\t")] for line in lines]
        columns = dict(zip(head.split("\t"), map(list, zip(*rows, strict=True)), strict=True))
    except (OSError, ValueError):
        return {}
    finite = all(isfinite(value) for row in rows for value in row)
    return columns if finite else {}


def _iterations(run: RunFiles) -> dict[str, dict[str, list[float]]]:
    columns = _read_table(run.path / "fsc_iterations.txt")
    numbers = columns.pop("iteration", [])
    found: dict[str, dict[str, list[float]]] = {}
    for step in sorted(set(numbers))[-MOST_ITERATIONS:]:
        rows = [row for row, which in enumerate(numbers) if which == step]
        found[str(int(step))] = {
            TEXT_COLUMNS[name]: [1.0, *(values[row] for row in rows)]
            for name, values in columns.items()
            if name in TEXT_COLUMNS
        }
    return found if len(found) > 1 else {}


def history(run: RunFiles) -> dict[str, list[float | None]]:
    """Columns of ``HISTORY`` that have a number in any iteration, and ``iteration``."""
    rows = run.history
    if not rows:
        return {}
    columns = {name: [number(row.get(name)) for row in rows] for name in ("iteration", *HISTORY)}
    return {name: v for name, v in columns.items() if any(x is not None for x in v)}
