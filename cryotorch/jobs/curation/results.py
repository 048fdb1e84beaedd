"""The lists that ``job=particles`` writes, its picture and its summary."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryotorch.data.cryosparc.file import is_cs
from cryotorch.data.files import replace_file
from cryotorch.data.half_sets import HALF
from cryotorch.data.particle_file import try_tables, write_tables
from cryotorch.findings import Finding
from cryotorch.jobs.curation.choose import parts_of
from cryotorch.jobs.curation.particle_list import ParticleList
from cryotorch.jobs.curation.restack import restacked
from cryotorch.jobs.curation.settings import Particles
from cryotorch.jobs.curation.steps import Course, Step, files_of
from cryotorch.report.particle_list import MOST_PANELS, selection
from cryotorch.report.style import render

# Shown where the list has them, besides the columns that decided.
COLUMNS = (
    "cryotorchParticleProbability",
    "cryotorchScale",
    "rlnDefocusU",
    "rlnMaxValueProbDistribution",
    "rlnLogLikeliContribution",
)


def parts(course: Course, settings: Particles) -> dict[str, ParticleList]:
    """The lists to write by the stem of their names: one, or ``split`` of them."""
    whole = course.particles
    if settings.split == 1:
        return {"particles": whole}
    part = parts_of(whole, settings.split, settings.seed)
    return {
        f"particles_{number + 1}": whole.taken(part == number).pruned()
        for number in range(settings.split)
        if (part == number).any()
    }


def write(folder: Path, course: Course, settings: Particles) -> list[str]:
    """Write lists, stacks and picture; the names of the lists. What is to be told is added to the course.

    Raises:
        InputError: images cannot be read, or something cannot be written.
    """
    formats = settings.write or ["cs" if is_cs(files_of(settings)[0]) else "star"]
    names = []
    for stem, particles in parts(course, settings).items():
        if settings.restack is not None:
            for ending in formats:  # before the images, which take long
                try_tables(Path(settings.out) / f"{stem}.{ending}", particles.tables)
            size = (settings.restack, settings.restack_size)
            particles, stacks = restacked(particles, folder, stem, *size)
            images = f"{len(np.unique(particles.image, axis=0)):,} images"
            said = f"{images} as {settings.restack} in {_listed(stacks)}, read again and the same"
            course.say(Step("restack", len(particles), len(particles), said))
        if len(course.rows) and settings.split > 1:
            said = f"{halves_in_words(particles)}"
            course.say(Step(stem, len(course.particles), len(particles), said))
        course.told += [x for x in _empty_half(particles) if x not in course.told]
        for ending in dict.fromkeys(formats):
            names.append(f"{stem}.{ending}")
            for found in write_tables(folder / names[-1], particles.tables):
                course.told += [found] if found not in course.told else []
    with replace_file(folder / "particles.png") as file:
        file.write(render(_picture(course)).png)
    return names


def _picture(course: Course):
    """How many were left after each step, and what has gone, in the columns that decided and some others."""
    start = course.start
    shown = [*course.values, *(x for x in COLUMNS if x in start.table and x not in course.values)]
    panels = {}
    for label in shown[:MOST_PANELS]:
        values = course.values[label] if label in course.values else start.numbers(label)
        panels[label] = (values, values[course.rows])
    return selection([(step.name, step.after) for step in course.steps], panels)


def halves(particles: ParticleList) -> list[int]:
    """How many particles are in half set 1 and 2; zeros where none are known."""
    if HALF not in particles.table:
        return [0, 0]
    half = particles.table.floats(HALF, particles.path)
    return [int((half == number).sum()) for number in (1, 2)]


def halves_in_words(particles: ParticleList) -> str:
    """The half sets for the log."""
    first, second = halves(particles)
    return f"half sets: {first:,} and {second:,}" if first or second else "half sets: none"


def _empty_half(particles: ParticleList) -> list[Finding]:
    """That one half set has lost all its particles, so that no refinement takes the list."""
    first, second = halves(particles)
    if bool(first) == bool(second):
        return []
    return [Finding("half_set_empty", empty=2 if first else 1)]


def entries(course: Course, settings: Particles, names: list[str]) -> dict[str, object]:
    """The entries of ``summary.json`` on particles."""
    steps = [vars(step) for step in course.steps]
    return {
        "particles": len(course.particles),
        "of": len(course.start),
        "optics_groups": course.particles.optics.rows,
        "half_sets": halves(course.particles),
        "steps": steps,
        "files": names,
    }


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
