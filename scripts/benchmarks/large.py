"""A large refinement on one device, phase by phase, against a goal.

Algorithm, defaults and schedule are those of job=homo_refine. What that does with files is left
out: images, results, figures, checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from benchmarks.large_run import Outcome, refined
from benchmarks.score import EDGE, agreement, pose_errors
from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import check_name, make_settings
from cryotorch.jobs.config.parse import in_angstrom
from cryotorch.jobs.homo_refine import HomoRefine
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.report.summary import peak_memory

SETS = {
    "cuda": dict(n_particles=100_000, box_size=360, pixel_size=1.1),
    "cpu": dict(n_particles=2000, box_size=64, pixel_size=3.0),
}
GOAL = 60.0  # seconds of compute for the set of CUDA devices, on an H200
# Parameters of homo_refine that belong to files, or that options of this command stand for.
ELSEWHERE = "particles volume mask out resume overwrite write cache_dir cache_dtype cache_limit"
ELSEWHERE += " box_size normalize invert profile symmetry half_sets trainer"

Row = dict[str, object]


def run(device: str, chosen: Row, changes: Sequence[str]) -> dict[str, list[Row]]:
    """Title -> rows of every table.

    Args:
        chosen: parameters of job=simulate; None = the device's set, or the job's default.
        changes: ``name=value`` of job=homo_refine.
    """
    given = SETS[device] | {name: value for name, value in chosen.items() if value is not None}
    outcome = refined(make_settings("simulate", **given), settings_of(changes, device, given))
    tables = {"Phases": _phases(outcome), "Iterations": _iterations(outcome)}
    tables["Result"] = [{"quantity": k, "value": v} for k, v in _result(outcome).items()]
    return {f"{title}, {device}": rows for title, rows in tables.items()}


def settings_of(changes: Sequence[str], device: str, given: Row) -> HomoRefine:
    """Of a run on the device; ``given``: parameters of job=simulate, lengths in Å."""
    values: Row = dict(symmetry=given["symmetry"], trainer__accelerator=device, trainer__devices=1)
    for name, _, value in (change.partition("=") for change in changes):
        if name.split(".")[0] in ELSEWHERE.split():
            raise InputError(f"{name} has no place here: choose among --help of this command")
        check_name(name, "homo_refine")
        values[name.replace(".", "__")] = yaml.safe_load(value)
    return in_angstrom(make_settings("homo_refine", **values), given["pixel_size"])


def _phases(o: Outcome) -> list[Row]:
    """Seconds of everything; shares are of what counts as compute."""
    compute = sum(o.seconds.values()) - o.seconds["simulate"]
    spent: dict[str, float] = {}
    for row in o.module.state.history:
        for name, seconds in row.items():
            if name.startswith("seconds_"):
                phase = name.removeprefix("seconds_")
                spent[phase] = spent.get(phase, 0.0) + seconds
    counted = {
        "start: device, libraries": o.seconds["start"],
        "setup: noise, grey scale": o.seconds["setup"],
        **spent,
        "rest: trainer, maps to the host": o.seconds["fit"] - sum(spent.values()),
        "compute: all of these": compute,
        "of it torch.compile": o.compiled,
        "of it the first batch beyond the median": o.watch.first_use(),
    }
    asked, goal_set = o.images.settings, SETS["cuda"]
    if o.images.volume.is_cuda and all(getattr(asked, k) == v for k, v in goal_set.items()):
        counted |= {"goal": GOAL, "above the goal": compute - GOAL}
    before = f"not counted: molecule, images (on {o.where})"
    first = {"phase": before, "seconds": o.seconds["simulate"], "of the compute": None}
    return [first] + [
        {"phase": phase, "seconds": seconds, "of the compute": seconds / compute}
        for phase, seconds in counted.items()
    ]


def _iterations(o: Outcome) -> list[Row]:
    """One row each; seconds are wall time."""
    rows = zip(o.module.state.history, o.watch.particles, o.watch.seconds, strict=True)
    return [
        {
            "iteration": int(row["iteration"]),
            "limit, Å": row["limit"],
            "resolution, Å": row["resolution"],
            "particles": particles,
            "seconds": seconds,
            "particles/s": particles / seconds,
        }
        for row, particles, seconds in rows
    ]


def _result(o: Outcome) -> Row:
    """How good it is, and what it took."""
    images, found, truth = o.images, o.module.result, o.images.truth
    box, device = images.box, images.volume.device
    sphere = soft_sphere(box, 0.42 * box, EDGE, device)
    against = agreement(found.map.to(device), images.volume, sphere, images.pixel_size)
    symmetry = images.settings.symmetry
    errors = pose_errors(found.particles, truth.rotation, truth.shift, symmetry)
    memory = peak_memory()
    return {
        "particles x pixels": f"{len(images)} x {box}",
        "pixel size, Å": images.pixel_size,
        "SNR": images.settings.snr,
        "iterations": found.iteration,
        "claimed resolution, Å (corrected, 0.143)": found.resolution,
        "against truth, Å (sphere, 0.5)": against,
        "median rotation error, degrees": errors["rotation"],
        "median shift error, Å": errors["shift"],
        "peak resident memory, MiB": memory["host"],
        "peak memory of the device after simulation, MiB": memory["cuda"],
    }
