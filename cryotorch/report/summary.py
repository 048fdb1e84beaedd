"""summary.json: the numbers of a run that a person, a script or a deposition asks for."""

from __future__ import annotations

import json
import math
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch import version
from cryotorch.data.files import replace_file
from cryotorch.ops.resolution.claims import ended_by
from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.report.sentences import in_summary, line, say
from cryotorch.results import IterationResult


def median(values: Tensor) -> float:
    """The median of the finite values; NaN when there is none."""
    finite = values[values.isfinite()]
    return float(finite.median()) if finite.numel() else math.nan


def seconds_of(result: IterationResult) -> float:
    """Wall seconds of the iteration: as recorded in the history, else the sum of its phases."""
    last = result.history[-1] if result.history else {}
    return float(last.get("seconds", sum(result.seconds.values())))


def git_commit() -> str | None:
    """The commit of the checkout that the package runs from ("-dirty" when changed), None for an installed one."""
    root = Path(version.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def command() -> str:
    """The command line as one would type it again."""
    program, *arguments = sys.argv
    start = (
        ["python", "-m", "cryotorch"]
        if Path(program).name == "__main__.py"
        else [Path(program).name]
    )
    return shlex.join([*start, *arguments])


def peak_memory() -> dict[str, float | None]:
    """MiB: ``host`` = largest resident set of this process, ``cuda`` = allocated by torch, the largest device."""
    try:
        import resource  # absent on Windows
    except ImportError:
        host = None
    else:
        unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
        host = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    cuda = None
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        devices = range(torch.cuda.device_count())
        cuda = round(max(torch.cuda.max_memory_allocated(d) for d in devices) / 2**20, 1)
    return {"host": host, "cuda": cuda}


def provenance() -> dict[str, object]:
    """What made a result: versions, command, memory and time."""
    return {
        "peak_memory_mib": peak_memory(),
        "version": version.__version__,
        "commit": git_commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": command(),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def seconds_per_phase(result: IterationResult) -> dict[str, float]:
    """Wall seconds: ``total`` over all iterations, and per phase.

    History entries named ``seconds_<phase>`` are summed over the iterations; without them the phases are those of
    the last iteration, under ``last_<phase>``.
    """
    total = sum(row.get("seconds", 0.0) for row in result.history) or seconds_of(result)
    found: dict[str, float] = {"total": total}
    for row in result.history:
        for name, value in row.items():
            if name.startswith("seconds_"):
                phase = name.removeprefix("seconds_")
                found[phase] = found.get(phase, 0.0) + value
    if len(found) == 1:
        found |= {f"last_{phase}": value for phase, value in result.seconds.items()}
    return {name: round(value, 3) for name, value in found.items()}


def ending(result: IterationResult) -> str:
    """What ends the corrected curve after the resolution, see ``ops.resolution.claims.ended_by``; "" where nothing can be claimed."""
    curve = result.curves.get("corrected")
    if curve is None or not math.isfinite(result.resolution):
        return ""
    shell = round(result.map.shape[-1] * result.pixel_size / result.resolution)
    return ended_by(curve, shell)


def summarise(result: IterationResult, extras: Mapping[str, object] | None = None) -> dict:
    """The summary as plain numbers and strings; ``extras`` come last, dictionaries are merged key by key."""
    particles, fit, left = result.particles, result.guinier, result.time_left
    box = result.map.shape[-1]
    summary: dict[str, object] = {
        "resolution": result.resolution,
        "resolutions": dict(result.resolutions),
        "threshold": THRESHOLD,
        "ended_by": ending(result) or None,
        "bfactor": fit.applied,
        "bfactor_fitted": fit.bfactor,
        "bfactor_error": fit.error,
        "bfactor_refused": fit.reason and say(fit.reason),
        "shells": {"shared": result.shared, "inserted": result.inserted},
        **in_summary(result.warnings),
        "iterations": result.iteration,
        "final": result.final,
        "particles": len(particles),
        "half_sets": [int((particles.half == half).sum()) for half in (0, 1)],
        "box": box,
        "pixel_size": result.pixel_size,
        "nyquist": 2 * result.pixel_size,
        "rotation_change_deg": median(result.rotation_change),
        "shift_change": median(result.shift_change),
        "junk_share": result.junk,
        "scale_spread": float(particles.scale.std(correction=0)),
        "seconds": seconds_per_phase(result),
        "seconds_left": left and list(left.seconds),
        "device": "cpu",
        **provenance(),
        "messages": [line(message) for message in result.messages],
        "history": [dict(row) for row in result.history],
    }
    for name, value in (extras or {}).items():
        old = summary.get(name)
        if isinstance(old, dict) and isinstance(value, Mapping):
            summary[name] = {**old, **value}
        else:
            summary[name] = value
    return summary


def write_summary(
    path: Path, result: IterationResult, extras: Mapping[str, object] | None = None
) -> None:
    """Write ``summarise`` as JSON."""
    write_json(path, summarise(result, extras))


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write a mapping as JSON, atomically; tensors become lists, NaN and infinity null."""
    text = json.dumps(_plain(values), indent=2, allow_nan=False)
    with replace_file(path) as file:
        file.write((text + "\n").encode())


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return _plain(value.item())
    return str(value)
