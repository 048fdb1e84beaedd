"""The last lines of a job: what it claims, what is to be looked at, where the files are, and what to type next."""

from __future__ import annotations

import logging
import math
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cryotorch.jobs.config.parse import to_yaml
from cryotorch.jobs.files.manifest import Manifest, found, job_name, read_manifest, summary_of
from cryotorch.jobs.files.ranks import rank
from cryotorch.ops.resolution.claims import LIMIT_ENDS, NOISE_ENDS, NYQUIST_ENDS
from cryotorch.report.next_steps import next_steps
from cryotorch.results import told

log = logging.getLogger("cryotorch")
WIDTH = 110  # characters of a warning that is said again
NAMED = 6  # files that are named
MINOR = (".xml", ".json", ".yaml", ".txt", ".png")  # endings of files that are counted only
BOUNDS = {
    LIMIT_ENDS: " or better, images were used no further",
    NYQUIST_ENDS: ", the limit of the pixel size",
    NOISE_ENDS: ", beyond it the half maps agree no further than noise may",
}


def claim_line(resolution: float | None, ended_by: str | None) -> str:
    """What is claimed, Å, and what ends it (see ``ops.resolution.claims``), or that nothing is."""
    if resolution is None or not math.isfinite(resolution):
        return "No resolution can be claimed, see the warnings"
    return f"Resolution {told(resolution)}{BOUNDS.get(ended_by or '', '')}"


def tell_end(settings: Any, started: float) -> None:
    """Say them of the job that has just written its results into ``settings.out``; ``started``: on time.perf_counter."""
    if rank() > 0:
        return
    out = Path(settings.out)
    manifest = read_manifest(out) or Manifest("")
    files = found(out, manifest.patterns or manifest.files)
    given = yaml.safe_load(to_yaml(settings))
    about = job_name(settings), str(settings.out), summary_of(out), given, files
    for said in last_lines(*about, time.perf_counter() - started):
        log.info("%s", said)


def last_lines(
    job: str,
    out: str,
    summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    files: Sequence[str],
    seconds: float,
) -> list[str]:
    """The lines.

    Args:
        out: folder; summary: what ``summary.json`` in it holds, empty without one; settings: the job's parameters.
        files: relative to ``out``; seconds: that the job took.
    """
    lines = [*_claim(job, summary), *_warnings(summary.get("warnings") or ())]
    lines.append(f"The results are in {out}, {seconds:.1f} s{_named(files)}")
    for number, step in enumerate(next_steps(job, out, summary, settings)):
        lines.append(f"{'Next:' if number == 0 else '     '} {step.command}   # {step.purpose}")
    return lines


def _claim(job: str, summary: Mapping[str, Any]) -> list[str]:
    value = summary.get("resolution", [])
    if job == "ab_initio":
        return ["No resolution is claimed of a first map: a refinement tells it"]
    if isinstance(value, list):  # of classes, or of nothing
        return []
    return [claim_line(value, summary.get("ended_by"))]


def _warnings(warnings: Sequence[str]) -> list[str]:
    if not warnings:
        return []
    counted = "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    short = [textwrap.shorten(warning, WIDTH, placeholder=" ...") for warning in warnings]
    return [f"{counted}, in full above and in the log:", *(f"    {said}" for said in short)]


def _named(files: Sequence[str]) -> str:
    """The files that people ask for, and how many others there are."""
    shown = [name for name in files if "/" not in name and not name.endswith(MINOR)][:NAMED]
    others = len(files) - len(shown)
    if not shown:
        return ""
    return f": {', '.join(shown)}" + (f" and {others} others" if others > 1 else "")
