"""The runs of a comparison: their folders, and what each claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryotorch.jobs.config.parse import require
from cryotorch.jobs.files.resume import CONFIG
from cryotorch.jobs.pages.write import MOST_RUNS
from cryotorch.report.page.headline import tiles, warnings
from cryotorch.report.page.run_files import read_run

MARKS = (CONFIG, "summary.json", "manifest.json")  # one of them makes a folder that of a run


def compared_runs(named: Sequence[str]) -> list[Path]:
    """The folders that are named, each once; that of a sweep stands for the runs in it.

    Raises:
        InputError: one is no folder of a run, or there are too many.
    """
    found: list[Path] = []
    for name in named:
        path = Path(name)
        require(path.is_dir(), "runs", name, "there is no such folder")
        inside = [path] if _is_run(path) else sorted(p for p in path.iterdir() if _is_run(p))
        require(bool(inside), "runs", name, f"no run has left a {CONFIG} or summary.json in it")
        found += inside
    found = list({path.resolve(): path for path in found}.values())
    fits = len(found) <= MOST_RUNS
    require(fits, "runs", f"{len(found)} runs", f"{MOST_RUNS} have room on a page, name fewer")
    return found


def _is_run(path: Path) -> bool:
    return path.is_dir() and any((path / mark).is_file() for mark in MARKS)


def entry(folder: Path) -> dict[str, object]:
    """What the summary of a comparison holds of a run."""
    run = read_run(folder)
    claim = next((t for t in tiles(run) if t.name == "Resolution"), None)
    said = "it judges no resolution" if claim is None else f"{claim.value} ({claim.note})"
    if run.damaged or not run.finished:
        said = warnings(run)[0] + ("" if claim is None else f"; {said}")
    job = run.job or "unknown job"
    return {"run": str(folder), "job": run.job, "said": f"{job}, {said}"}
