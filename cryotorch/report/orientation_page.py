"""Orientation diagnostics in words, and as one picture."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from cryotorch.report import style
from cryotorch.report.orientation import FIGURE_WIDTH
from cryotorch.report.style import DPI, Picture, new_figure, render


class Score(NamedTuple):
    """A number to be seen first: its name, itself, what to hold it against, and whether it is good (None: no matter)."""

    name: str
    value: str
    note: str
    good: bool | None


class Page(NamedTuple):
    """What is said: where it comes from, scores, their reading, warnings, a table of facts, explanations."""

    origin: str
    scores: Sequence[Score]
    reading: str
    warnings: Sequence[str]
    facts: Mapping[str, str]
    explanations: Sequence[str]


TITLE = "Orientation diagnostics"


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
