"""Tables of a page: what a summary lists, the iterations, the files; every number with its unit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from html import escape
from typing import Any
from urllib.parse import quote

from cryotorch.report.page.curves import HISTORY, history
from cryotorch.report.page.run_files import RunFiles, number

# Entries of summary.json that are lists of rows, and columns of them: title, unit, digits (None: text).
LISTS = {
    "steps": "Steps",
    "classes": "Classes",
    "components": "Components",
    "starts": "Starts",
    "symmetric_starts": "Starts with the symmetry imposed",
    "optics_groups": "Optics groups",
}
COLUMNS: dict[str, tuple[str, str, int | None]] = {
    "number": ("Number", "", 0),
    "class": ("Class", "", 0),
    "name": ("Name", "", None),
    "before": ("Particles before", "", 0),
    "after": ("Particles after", "", 0),
    "said": ("What was done", "", None),
    "particles": ("Particles", "", 0),
    "share": ("Share of the particles", "%", 1),
    "effective_particles": ("Effective number of particles", "", 0),
    "resolution": ("Resolution", "Å", 2),
    "bounded_by": ("What ends it", "", None),
    "resolution_limit": ("Limit", "Å", 2),
    "score": ("Score per particle", "", 2),
    "lead_standard_errors": ("Lead over shapeless maps", "standard errors", 1),
    "real": ("Real", "", None),
    "errors": ("Seen by", "standard errors", 1),
    "relative_power": ("Power, of that of the map", "%", 1),
    "mean_sigma": ("Uncertainty of a coordinate", "standard deviations", 2),
    "agreement_with_best": ("Correlation with the best", "", 2),
}
PARALLEL = ("share", "effective_particles", "resolution")  # of 2D classes, a list each
# What opens a file: pattern of its name -> programs, and what it is.
OPENS = (
    ("config.yaml", "a text editor", "the parameters: cryotorch out=<folder> resume=true reads them"),
    ("summary.json", "a text editor, any program that reads JSON", "the numbers of this page"),
    ("manifest.json", "a text editor", "which files this run wrote"),
    ("log.txt", "a text editor", "what the run said, with times"),
    ("fsc.txt", "a spreadsheet, CryoSPARC's readers", "FSC curves over the shell"),
    ("fsc_iterations.txt", "a spreadsheet", "FSC curves of each iteration"),
    ("fsc_class_*.txt", "a spreadsheet", "FSC curves of a class"),
    ("fsc_*.xml", "the EMDB's deposition site", "an FSC curve"),
    ("mask*.mrc", "ChimeraX, RELION, CryoSPARC", "a mask, 0 to 1"),
    ("map_half_*.mrc", "ChimeraX, RELION, CryoSPARC", "a half map"),
    ("half_?_class_*.mrc", "ChimeraX, RELION, CryoSPARC", "a half map of a class"),
    ("local_resolution.mrc", "ChimeraX", "resolution at each voxel, Å"),
    ("*.mrcs", "RELION, CryoSPARC, IMOD, Fiji", "a stack of images"),
    ("*.mrc", "ChimeraX, RELION, CryoSPARC, IMOD", "a map"),
    ("*.star", "RELION, any text editor", "a table"),
    ("*.cs", "CryoSPARC", "particles"),
    ("*.bild", "ChimeraX", "viewing directions"),
    ("*.cxc", "ChimeraX", "commands that open the maps"),
    ("*.ckpt", "cryotorch out=<folder> resume=true", "the state of the run, to go on from"),
    ("*tfevents*", "tensorboard --logdir <folder>", "curves and figures of the run"),
    ("hparams.yaml", "tensorboard --logdir <folder>", "of TensorBoard"),
    ("*.png", "any viewer of pictures", "a figure"),
    ("*.html", "a browser", "a page"),
    ("*.csv", "a spreadsheet", "a table"),
    ("*.json.gz", "ui.perfetto.dev", "where the time of an iteration went"),
)  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """An HTML table of plain text; numbers are set flush right."""
    kind = [' class="number"' if n else "" for n in numeric]
    titles = "".join(f"<th{k}>{escape(t)}</th>" for k, t in zip(kind, head, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{k}>{escape(c)}</td>" for k, c in zip(kind, row, strict=True))
        for row in rows
    ]
    body = "\n".join(lines)
    return f'<div class="scroll"><table><thead><tr>{titles}</thead><tbody>\n{body}</tbody></table></div>\n'


def summary_lists(run: RunFiles) -> list[tuple[str, str]]:
    """Titles and tables of the lists in the summary whose columns are known."""
    found = []
    for name, title in LISTS.items():
        rows = run.summary.get(name)
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            shown = (
                [{"number": k, **row} for k, row in enumerate(rows, 1)]
                if name == "components"
                else rows
            )
            junk = number(run.summary.get("junk")) if name == "classes" else None
            aside = [] if junk is None else [{"class": "junk", "share": junk}]
            found.append((title, _listed([*shown, *aside])))
    lists = {name: run.summary.get(name) for name in PARALLEL}
    lists = {name: values for name, values in lists.items() if isinstance(values, list)}
    if len(lists) > 1 and len({len(values) for values in lists.values()}) == 1:
        columns = zip(*lists.values(), strict=True)
        rows = [
            {"class": k, **dict(zip(lists, row, strict=True))} for k, row in enumerate(columns, 1)
        ]
        found.append((LISTS["classes"], _listed(rows)))
    return [(title, text) for title, text in found if text]


def _listed(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in COLUMNS if any(name in row for row in rows)]
    if not names:
        return ""
    heads = [_head(*COLUMNS[name][:2]) for name in names]
    cells = [[_cell(name, row.get(name)) for name in names] for row in rows]
    return table(heads, cells, [COLUMNS[name][2] is not None for name in names])


def _head(title: str, unit: str) -> str:
    return f"{title} ({unit})" if unit else title


def _cell(name: str, value: object) -> str:
    digits, unit = COLUMNS[name][2], COLUMNS[name][1]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if digits is None or isinstance(value, str):
        return "" if value is None else str(value)
    found = number(value)
    if found is None:
        return "–"
    return f"{found * (100 if unit == '%' else 1):,.{digits}f}"


def iterations(run: RunFiles) -> str:
    """A row for each iteration; "" where there are none."""
    columns = history(run)
    if not columns:
        return ""
    names = [name for name in HISTORY if name in columns]
    heads = ["Iteration", *(_head(*HISTORY[name][:2]) for name in names)]
    rows = []
    for place, step in enumerate(columns["iteration"]):
        values = [columns[name][place] for name in names]
        none = {"resolution": "not claimed"}
        cells = [
            none.get(name, "–") if value is None else f"{value:,.{HISTORY[name][2]}f}"
            for name, value in zip(names, values, strict=True)
        ]
        rows.append([f"{step or 0:.0f}", *cells])
    return table(heads, rows, [True] * len(heads))


def files(run: RunFiles) -> str:
    """The files of the folder, with links, sizes and what opens them."""
    rows = []
    for name, size in run.files:
        programs, what = opens(name)
        link = quote(os.fsencode(name))
        cells = (f'<a href="./{link}">{escape(name)}</a>', f"{_size(size)}", what, programs)
        rows.append(
            f'<tr><td class="name">{cells[0]}</td><td class="number">{cells[1]}</td><td>{escape(what)}</td><td>{escape(programs)}</td>'
        )
    head = '<th>File</th><th class="number">Size</th><th>What it is</th><th>What opens it</th>'
    body = "\n".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}</thead><tbody>\n{body}</tbody></table></div>\n'


def opens(name: str) -> tuple[str, str]:
    """What opens a file, and what it is."""
    last = name.rpartition("/")[2]
    for pattern, programs, what in OPENS:
        if fnmatch(last, pattern):
            return programs, what
    return "", ""


def _size(size: int) -> str:
    if size < 1000:
        return f"{size} B"
    unit, factor, digits = ("kB", 1e3, 0) if size < 1e6 else ("MB", 1e6, 1)
    return f"{size / factor:,.{digits}f} {unit}"
