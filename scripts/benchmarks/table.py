"""Rows of plain numbers as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def markdown(title: str, rows: Sequence[Mapping[str, object]]) -> str:
    """A titled table; the columns are the keys of the first row. Numbers are right-aligned."""
    names = list(rows[0])
    cells = [[shown(row[name]) for name in names] for row in rows]
    width = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    number = [not isinstance(rows[0][name], str) for name in names]

    def line(texts: Sequence[str]) -> str:
        cells = zip(texts, width, number, strict=True)
        return "| " + " | ".join(t.rjust(w) if n else t.ljust(w) for t, w, n in cells) + " |"

    rule = ["-" * (w - 1) + (":" if n else "-") for w, n in zip(width, number, strict=True)]
    return "\n".join([f"### {title}", "", line(names), line(rule), *map(line, cells)])


def shown(value: object) -> str:
    """Three digits with a decimal prefix (12.3 M); whole numbers and text as they are."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    for factor, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= 0.9995 * factor:
            if prefix == " k":
                factor = 1e3
            return f"{_three(value / factor)}{prefix}"
    return _three(value)


def _three(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.3g}"
