"""Orientation diagnostics on one page: a self-contained HTML file, and the same as one picture."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from PIL import Image

from cryotorch.report import style
from cryotorch.report.orientation import FIGURE_WIDTH
from cryotorch.report.style import DPI, Picture, new_figure, render

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22272e; background: #fff; max-width: 1000px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem }
.from { color: #6b7580; margin: .2rem 0 1.2rem; overflow-wrap: anywhere }
.scores { display: flex; flex-wrap: wrap; gap: 1rem }
.score { border: 1px solid #e6e9ed; border-top: 4px solid #6b7580; border-radius: 6px; padding: .6rem 1rem; flex: 1; min-width: 11rem }
.good { border-top-color: #009E73 } .bad { border-top-color: #D55E00 }
.score b { display: block; font-size: 1.8rem; line-height: 1.3 } .score span { color: #6b7580; font-size: .85rem }
.reading { font-size: 1.05rem } .warning { border-left: 4px solid #D55E00; background: #fdf4ee; padding: .5rem .8rem }
img { max-width: 100%; height: auto; display: block; margin: 1.2rem 0 }
table { border-collapse: collapse; width: 100% } td { border-bottom: 1px solid #e6e9ed; padding: .25rem .5rem .25rem 0; vertical-align: top; overflow-wrap: anywhere }
td:first-child { color: #6b7580; white-space: nowrap; padding-right: 1.5rem }
""".strip()


class Score(NamedTuple):
    """A number to be seen first: its name, itself, what to hold it against, and whether it is good (None: no matter)."""

    name: str
    value: str
    note: str
    good: bool | None


class Page(NamedTuple):
    """What the page says: where it comes from, scores, their reading, warnings, a table of facts, explanations."""

    origin: str
    scores: Sequence[Score]
    reading: str
    warnings: Sequence[str]
    facts: Mapping[str, str]
    explanations: Sequence[str]


TITLE = "Orientation diagnostics"


def page_html(page: Page, pictures: Mapping[str, Picture]) -> str:
    """The page as HTML with its pictures inside: no script, nothing loaded from elsewhere."""
    kind = {True: " good", False: " bad", None: ""}
    scores = "".join(
        f'<div class="score{kind[s.good]}">{escape(s.name)}<b>{escape(s.value)}</b><span>{escape(s.note)}</span></div>\n'
        for s in page.scores
    )
    warnings = "".join(f'<p class="warning">{escape(text)}</p>\n' for text in page.warnings)
    images = "".join(
        f'<img alt="{escape(name.replace("_", " "))}" width="{p.width}" height="{p.height}" '
        f'src="data:image/png;base64,{base64.b64encode(p.png).decode()}">\n'
        for name, p in pictures.items()
    )
    facts = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>\n"
        for name, text in page.facts.items()
    )
    explanations = "".join(f"<p>{escape(text)}</p>\n" for text in page.explanations)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{TITLE}</h1>
<p class="from">{escape(page.origin)}</p>
<div class="scores">
{scores}</div>
<p class="reading">{escape(page.reading)}</p>
{warnings}{images}<h2>What was computed</h2>
<table>
{facts}</table>
<h2>What the scores mean</h2>
{explanations}</body>
</html>
"""


def page_picture(page: Page, pictures: Mapping[str, Picture]) -> Picture:
    """The page as one picture: scores, reading and warnings on top, the figures below."""
    parts = [_head(page), *pictures.values()]
    width, height = max(p.width for p in parts), sum(p.height for p in parts)
    whole, top = Image.new("RGB", (width, height), "white"), 0
    for part in parts:
        with Image.open(io.BytesIO(part.png)) as image:
            whole.paste(image, (0, top))
        top += part.height
    buffer = io.BytesIO()
    whole.save(buffer, "png", compress_level=1, dpi=(DPI, DPI))
    return Picture(buffer.getvalue(), width, height)


def _head(page: Page) -> Picture:
    wrapped = [(style.INK, line) for line in textwrap.wrap(page.reading, 118)]
    for text in page.warnings:
        wrapped += [(style.VERMILION, line) for line in textwrap.wrap(text, 118)]
    height = 1.75 + 0.19 * len(wrapped)
    figure = new_figure(FIGURE_WIDTH, height, TITLE, textwrap.shorten(page.origin, 125))
    colours = {True: style.GREEN, False: style.VERMILION, None: style.INK}
    for place, score in enumerate(page.scores):
        left = (0.16 + place * (FIGURE_WIDTH - 0.3) / len(page.scores)) / FIGURE_WIDTH
        rows = (
            (0.62, score.name, 9, style.INK),
            (0.78, score.value, 19, colours[score.good]),
            (1.17, score.note, 7.5, style.FAINT),
        )
        for down, text, size, colour in rows:
            figure.text(left, 1 - down / height, text, fontsize=size, color=colour, va="top")
    for place, (colour, line) in enumerate(wrapped):
        down = (1.5 + 0.19 * place) / height
        figure.text(0.16 / FIGURE_WIDTH, 1 - down, line, fontsize=8.5, color=colour, va="top")
    return render(figure)
