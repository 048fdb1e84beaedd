"""``job=homo_refine`` as a user waits for it, from start to end of its process, and how good it is.

Loads torch only after the job: a child's peak memory starts at what its parent had when it forked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

# As many particles, pixels, and as much noise as in the set that the project's aims are stated for.
SIMULATED = dict(n_particles=2000, box_size=64, pixel_size=3, snr=0.08, seed=1)


@dataclass(frozen=True)
class Data:
    """What is refined, and what it is scored against."""

    particles: Path
    volume: Path
    truth_map: Path | None = None
    truth_star: Path | None = None
    symmetry: str = "C1"
    radius: float | None = None


@dataclass(frozen=True)
class Run:
    """A finished process: wall seconds, largest resident set in MiB, seconds of processors."""

    seconds: float
    memory: float
    processor: float = 0.0


class JobFailed(Exception):
    """A job ended with an error; the message holds the end of its output."""


def simulated(folder: Path, changes: Sequence[str], symmetry: str) -> Data:
    """A set made by ``job=simulate`` in a process of its own; ``changes`` are ``name=value``."""
    settings = {k: str(v) for k, v in SIMULATED.items()} | dict(c.split("=", 1) for c in changes)
    arguments = [f"{name}={value}" for name, value in settings.items()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = cryotorch("simulate", f"out={folder}", f"symmetry={symmetry}", *arguments)
    finish(command, folder.parent / "simulate.log")
    names = ("particles.star", "initial.mrc", "truth.mrc", "truth.star")
    return Data(*(folder / name for name in names), symmetry=symmetry)


def refine(data: Data, out: Path, changes: Sequence[str]) -> Run:
    """One refinement; its output goes to a log beside ``out``."""
    inputs = [f"particles={data.particles}", f"volume={data.volume}", f"symmetry={data.symmetry}"]
    out.parent.mkdir(parents=True, exist_ok=True)
    command = cryotorch("homo_refine", *inputs, f"out={out}", *changes)
    return finish(command, out.parent / f"{out.name}.log")


def finish(command: list[str], log: Path) -> Run:
    """Run a command to its end; JobFailed when it does not end well."""
    with open(log, "wb") as file:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        # not RUSAGE_CHILDREN, which keeps the largest child so far
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = log.read_text(errors="replace")[-2000:]
        raise JobFailed(f"{' '.join(command)} ended with code {process.returncode}:\n{end}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Run(seconds, usage.ru_maxrss / unit, usage.ru_utime + usage.ru_stime)


def tables(data: Data, runs: Sequence[Run], out: Path) -> dict[str, list[dict[str, object]]]:
    """Result and phases; ``out`` is the folder of the last run."""
    summary = json.loads((out / "summary.json").read_text())
    result = _result(data, runs, summary, out)
    return {
        "Refinement": [{"quantity": name, "value": value} for name, value in result.items()],
        "Phases, all iterations": _phases(runs[-1], summary),
    }


def _result(data: Data, runs: Sequence[Run], summary: dict, out: Path) -> dict[str, object]:
    from benchmarks.score import score_map, score_poses

    wall = [run.seconds for run in runs]
    result: dict[str, object] = {
        "particles x pixels": f"{summary['particles']} x {summary['box']}",
        "device": summary["device"],
        "runs": len(runs),
        "process wall time, s, best": min(wall),
        "process wall time, s, median": median(wall),
        "peak resident memory, MiB": max(run.memory for run in runs),
        "iterations": summary["iterations"],
        "claimed resolution, Å (corrected, 0.143)": summary["resolution"],
    }
    if data.truth_map is not None:
        found = score_map(out / "map.mrc", data.truth_map, data.radius)
        result["against truth, Å (sphere, 0.5)"] = found["sphere"]
        result["against truth, Å (tight mask, 0.5)"] = found["tight"]
    if data.truth_star is not None:
        found = score_poses(out / "particles.star", data.truth_star, data.symmetry)
        result["median rotation error, degrees"] = found["rotation"]
        result["median shift error, Å"] = found["shift"]
    return result


def _phases(run: Run, summary: dict) -> list[dict[str, object]]:
    """Seconds per phase, and particles per second, each particle counted once per iteration."""
    seconds = dict(summary["seconds"])
    known = seconds.pop("total") + seconds.get("setup", 0.0)
    once = ("setup", "imports, reports, files")
    seconds[once[1]] = run.seconds - known
    passes = summary["particles"] * summary["iterations"]
    return [
        {
            "phase": phase,
            "seconds": float(spent),
            "of the run": spent / run.seconds,
            "particles/s": None if phase in once or spent <= 0 else passes / spent,
        }
        for phase, spent in sorted(seconds.items(), key=lambda item: -item[1])
    ]


def cryotorch(job: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "cryotorch", f"job={job}", *arguments]
