"""The runs of ours that inputs come from, and what they doubt of them: nobody is to read a number without the doubts of the run before."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryotorch.findings import Finding, Value
from cryotorch.jobs.files.manifest import read_manifest, summary_of
from cryotorch.report.sentences import plain, say

# What is not passed on, as it says nothing of maps and poses as such: of masks, and of what each job judges itself of its half maps,
JUDGED_AGAIN = (
    *("mask_at_faces", "mask_tiny", "mask_leaves_out", "mask_cuts", "mask_hard", "no_mask_made"),
    *(
        "nothing_to_subtract",
        "curve_dips",
        "random_phases_agree",
        "random_phases_late",
        "never_falls",
    ),
    *("unequal_power", "solvent_offset", "half_maps_inverted", "map_inverted"),
)
# of how a map was sharpened or filtered.
OF_FILTERS = (
    *("run_not_sharpened", "run_bfactor_uncertain", "fit_refused", "bfactor_positive"),
    *("bfactor_uncertain", "filter_fine", "no_local_resolution", "local_threshold_low"),
    *("local_not_said",),
)
OF_FORMATS = ("convert",)  # jobs that say of their files what a format cannot hold
# Why half maps under a mask claim nothing: another mask may show more, so a job that has the half maps judges it again.
NO_CLAIM = (
    *("same_map", "masked_before", "nothing_shared", "agree_coarsely", "frames_differ"),
    *("within_noise", "aligned_to_one_map", "mask_correlates"),
)
WARNED, UNFINISHED = "earlier_warning", "earlier_unfinished"
NONE_CLAIMED, BARRED = "earlier_claims_none", "earlier_bars"
PASSED_ON = (WARNED, UNFINISHED, BARRED)  # as they are, through any number of jobs


def doubts(*inputs: str | Path | None) -> list[Finding]:
    """What the runs that made files, or own folders, doubt of them, each doubt once; nothing of files that no run of ours made."""
    folders = dict.fromkeys(run_of(path) for path in inputs if path is not None)
    found = [doubt for folder in folders if folder is not None for doubt in _of_run(folder)]
    return list(dict.fromkeys(found))


def bars(earlier: Iterable[Finding]) -> list[Finding]:
    """Those for which no resolution may be claimed of anything that is made of such inputs."""
    return [finding for finding in earlier if finding.code == BARRED]


def run_of(path: str | Path) -> Path | None:
    """The folder of the run that made a file, or whose folder it is; None where none is known to have."""
    real = Path(os.path.realpath(path))
    folder = real if real.is_dir() else real.parent
    manifest = read_manifest(folder)
    owned = manifest is not None and (real == folder or manifest.owns(real.name))
    return folder if owned else None


def doubts_of_result(job: str, findings: Iterable[Finding], claims: bool) -> list[Finding]:
    """The same of a result in memory, of what ``job`` found in this program."""
    rows = [(plain(finding), say(finding)) for finding in findings]
    return _passed_on(rows, claims, dict(job=job, run=""))


def _of_run(folder: Path) -> list[Finding]:
    """What the summary of a run says, and what the runs before it said."""
    summary, manifest = summary_of(folder), read_manifest(folder)
    about: dict[str, Value] = dict(job=manifest.job if manifest else "", run=str(folder))
    rows = list(zip(_entries(summary, "findings"), _entries(summary, "warnings"), strict=False))
    rows = [(row, str(said)) for row, said in rows if isinstance(row, dict)]
    if about["job"] in OF_FORMATS:
        rows = [(row, said) for row, said in rows if row.get("code") in PASSED_ON]
    judged = "shells" in summary and "resolution" in summary
    found = _passed_on(rows, not judged or summary["resolution"] is not None, about)
    if summary.get("final") is False:
        done = summary.get("iterations")
        found.append(Finding("earlier_unfinished", **about, iterations=done))
    return found


def _passed_on(
    rows: list[tuple[dict[str, Any], str]], claims: bool, about: dict[str, Value]
) -> list[Finding]:
    """What is passed on of findings, each as a row of a summary and in words; ``claims``: whether the run does, or judges none."""
    found, reasons, before = [], [], []
    for row, said in rows:
        code = str(row.get("code"))
        if code in PASSED_ON:
            before.append(_again(row))
        elif code in NO_CLAIM:
            reasons.append(said)
        elif code not in (*JUDGED_AGAIN, *OF_FILTERS, NONE_CLAIMED):
            found.append(Finding("earlier_warning", **about, of=code, said=said))
    if not claims and reasons:
        found.append(Finding("earlier_claims_none", **about, said="; ".join(reasons)))
    elif not claims and not bars(before):
        found.append(Finding("earlier_bars", **about))
    return [*before, *found]


def _again(row: dict[str, Any]) -> Finding:
    """What a run had from one before it."""
    about: dict[str, Value] = dict(job=str(row.get("job")), run=str(row.get("run")))
    if row["code"] == WARNED:
        return Finding("earlier_warning", **about, of=row.get("of"), said=str(row.get("said")))
    if row["code"] == UNFINISHED:
        return Finding("earlier_unfinished", **about, iterations=row.get("iterations"))
    return Finding("earlier_bars", **about)


def _entries(summary: dict[str, Any], name: str) -> list[Any]:
    value = summary.get(name)
    return value if isinstance(value, list) else []
