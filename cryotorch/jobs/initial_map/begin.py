"""What a first map asks of the refinement that begins with it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path

from cryotorch.findings import Finding
from cryotorch.jobs.files.manifest import summary_of

log = logging.getLogger("cryotorch")
USUAL = 30.0  # Å: low-pass of an initial map of which nothing else is known
ENTRY = "refine_from"  # in summary.json, Å; null = whatever is usual


def asked(findings: Iterable[Finding]) -> float | None:
    """The resolution in Å, of two digits, at which the map is more than a ball, where that is so at finer ones only."""
    of_ball = (finding for finding in findings if finding.code == "axes_of_ball")
    return next((float(f"{finding['initial']:.2g}") for finding in of_ball), None)


def asked_for(volume: str | None) -> float | None:
    """The same, of the run whose folder ``volume`` names; None where it is none, or asks for nothing."""
    found = summary_of(Path(volume or "")).get(ENTRY)
    if not isinstance(found, int | float) or not math.isfinite(found) or found <= 0:
        return None
    log.info("initial_resolution=%.2g, as the run in %s asks for", found, volume)
    return float(found)


def first_resolution(given: float | str, volume: str | None) -> float:
    """``initial_resolution`` in Å: the one given, else with auto what the run asks for whose folder ``volume`` names, else ``USUAL``."""
    if not isinstance(given, str):
        return given
    found = asked_for(volume)
    return USUAL if found is None else found
