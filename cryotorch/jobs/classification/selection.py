"""The particles of chosen classes, of this run or of an earlier one."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cryotorch.data.particle_file import ParticleFile, write_particles
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs.classification.results import SUGGESTED
from cryotorch.jobs.classification.settings import Class2d
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.files.dry_run import work_begins
from cryotorch.jobs.inputs.particles import load_particles
from cryotorch.report.sentences import line
from cryotorch.report.summary import provenance, write_json

log = logging.getLogger("cryotorch")


def select_from(settings: Class2d, folder: Path, started: float) -> None:
    """The selection from the folder of an earlier run, with a summary."""
    earlier = Path(str(settings.particles))
    requirement = "it is a folder: add select=[1,4,7] or select=suggested to choose classes of the run in it, or name a file"
    require(settings.select is not None, "particles", settings.particles, requirement)
    there = (earlier / "classes.star").exists() and (earlier / "particles.star").exists()
    if not there:
        raise InputError(
            f"particles={earlier} holds no classes.star and particles.star: name the folder of a run of job=class2d"
        )
    file = load_particles(earlier / "particles.star", settings.class_, need_half_sets=False)
    suggested = read_star(earlier / "classes.star")["model_classes"].integers(SUGGESTED)
    classes, count = write_selected(folder, settings, file, suggested > 0)
    summary = {
        "particles": count,
        "of": len(file.particles),
        "classes": classes,
        "source": str(earlier.resolve()),
        "seconds": {"total": round(time.perf_counter() - started, 3)},
        **provenance(),
    }
    write_json(folder / "summary.json", summary)


def write_selected(
    folder: Path, settings: Class2d, file: ParticleFile, suggested: np.ndarray
) -> tuple[list[int], int]:
    """Write the particles of the classes that are asked for, if any; which classes, and how many particles.

    ``suggested`` (k,) bool: whether a class looks like particles.

    Raises:
        InputError: there is no such class, or no particle in it.
    """
    if settings.select is None:
        return [], 0
    chosen = (np.nonzero(suggested)[0] + 1).tolist()
    if settings.select != "suggested":
        chosen = sorted(set(settings.select))
    wrong = [number for number in chosen if not 1 <= number <= len(suggested)]
    requirement = f"the classes have the numbers 1 to {len(suggested)}"
    require(not wrong, "select", settings.select, requirement)
    table = file.tables["particles"]
    label = table.integers("rlnClassNumber", file.path)
    # blank images, of no class, have none
    likely = table.floats("rlnMaxValueProbDistribution", file.path) > 0
    rows = np.nonzero(np.isin(label, chosen) & likely)[0]
    requirement = "no particle is in these classes" if chosen else "no class looks like particles"
    require(len(rows) > 0, "select", settings.select, f"{requirement}, see classes.png")
    work_begins(settings)
    tables = {**file.tables, "particles": table.taken(rows)}
    some = replace(file, particles=file.particles[torch.from_numpy(rows)], tables=tables)
    for ending in dict.fromkeys(settings.write):
        for unseen in write_particles(folder / f"selected.{ending}", some, some.particles):
            log.info(line(unseen))
    log.info("%d of %d particles are in the classes chosen", len(rows), len(label))
    return chosen, len(rows)
