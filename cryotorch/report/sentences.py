"""Findings in words: one table of everything that a run may say, with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cryotorch.findings import Finding
from cryotorch.report.words import (
    classes3d,
    ctf,
    files,
    half_maps,
    initial_map,
    inputs,
    refinement,
    variability,
)

WARNING = "WARNING: "  # what a line begins with that the user must look at
# Code -> a template for its values, or a function of them. Findings among the values are put into words first.
TABLE: dict[str, str | Callable[..., str]] = {
    **half_maps.SAID,
    **refinement.SAID,
    **inputs.SAID,
    **ctf.SAID,
    **files.SAID,
    **initial_map.SAID,
    **classes3d.SAID,
    **variability.SAID,
}


def say(finding: Finding) -> str:
    """A finding as a sentence, or as part of one."""
    form = TABLE[finding.code]
    values = {name: _in_words(value) for name, value in finding.pairs}
    return form.format(**values) if isinstance(form, str) else form(**values)


def said(findings: Iterable[Finding]) -> list[str]:
    """A sentence for each."""
    return [say(finding) for finding in findings]


def line(finding: Finding) -> str:
    """A finding as a line of the log: one that is serious begins with WARNING."""
    return (WARNING if finding.serious else "") + say(finding)


def plain(finding: Finding) -> dict[str, object]:
    """A finding as an entry of ``summary.json``: its code and its values."""
    return {"code": finding.code, **{name: _plain(value) for name, value in finding.pairs}}


def in_summary(warnings: Iterable[Finding]) -> dict[str, object]:
    """The entries of ``summary.json`` for what the user must look at: in words, and as values."""
    warnings = list(warnings)
    return {"warnings": said(warnings), "findings": [plain(warning) for warning in warnings]}


def _in_words(value: object) -> object:
    if isinstance(value, Finding):
        return say(value)
    if isinstance(value, tuple):
        return "; ".join(said(value))
    return value


def _plain(value: object) -> object:
    if isinstance(value, Finding):
        return plain(value)
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    return value
