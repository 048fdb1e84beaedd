"""The page of one run or of several side by side, as one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files as resources

from cryotorch.report.page import curves, sections
from cryotorch.report.page.gathered import Gathered

ASSETS = ("page.css", "charts.js", "volumes.js", "page.js")


def page_html(title: str, runs: Sequence[Gathered]) -> str:
    """The page of one run, or of several side by side."""
    several = len(runs) > 1
    parts = [
        ("", sections.head(title, runs)),
        ("", sections.headline_table(runs) if several else sections.headline(runs[0])),
        ("FSC", sections.fsc(runs)),
        ("Iterations", sections.iterations(runs)),
        ("Maps", sections.maps(runs)),
        ("Particles", sections.particles(runs)),
        ("Details", "" if several else sections.lists(runs[0])),
        ("Figures", "" if several else sections.figures(runs[0])),
        ("Go on", sections.commands(runs)),
        (
            "Parameters",
            sections.parameters_of(runs)
            if several
            else sections.parameters(runs[0].page.parameters),
        ),
        ("Files", sections.files(runs)),
        ("Methods", sections.citations(runs)),
        ("Log", "" if several else sections.log(runs[0].page.run)),
    ]
    shown = [(name, text) for name, text in parts if text]
    links = "".join(f'<a href="#{_id(name)}">{name}</a>' for name, _ in shown if name)
    body = "".join(
        f'<section id="{_id(name)}"><h2>{name}</h2>\n{text}</section>\n' if name else text
        for name, text in shown
    )
    body = body.replace("<!--nav-->", f'<nav aria-label="Sections">{links}</nav>', 1)
    data = {"runs": [run.plain() for run in runs], "palette": _palette(), "history": curves.HISTORY}
    return _document(title, body, data)


def _document(title: str, body: str, data: object) -> str:
    here = resources("cryotorch.report.page")
    css, *scripts = (here.joinpath(name).read_text("utf-8") for name in ASSETS)
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    safe = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )
    script = "\n".join(scripts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{safe}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{css}</style>
</head>
<body>
<main>
{body}</main>
<script type="application/json" id="data">{text}</script>
<script>
{script}</script>
</body>
</html>
"""


def _palette() -> list[str]:
    """Colours from low to high, 17 of them: viridis, which is told apart with every kind of colour blindness."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](k / 16)) for k in range(17)]


def _id(name: str) -> str:
    return name.lower().replace(" ", "-")
