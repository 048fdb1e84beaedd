"""Particle files from RELION's format to CryoSPARC's and back."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import require

if TYPE_CHECKING:
    from cryotorch.data.particle_file import ParticleFile

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = ("config.yaml", "log.txt", "particles.star", "particles.cs", "summary.json")


@dataclass(frozen=True)
class Convert:
    """The parameters; meanings and defaults in ``configs/job/convert.yaml``."""

    particles: str | None
    passthrough: str | None
    class_: int | None
    write: list[Literal["star", "cs"]] | None
    project: str | None
    out: str | None
    overwrite: bool

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the particles are."""
        require(self.write != [], "write", "[]", "name a format, write=[star] or write=[cs]")


def run(settings: Convert) -> Path:
    """The particle file in the other format, in ``settings.out``."""
    started = time.perf_counter()
    requirement = "name a STAR file, particles=run_data.star, or a .cs file"
    require(settings.particles is not None, "particles", None, requirement)
    from cryotorch.data.cryosparc.file import is_cs
    from cryotorch.data.particle_file import read_particles, write_tables
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.report.run_log import RunLog
    from cryotorch.report.sentences import WARNING, in_summary, say
    from cryotorch.report.summary import provenance, write_json

    with RunLog() as log:
        inputs = (settings.particles, settings.passthrough)
        with new_files(settings, FILES, inputs) as folder:
            log.open(folder / "log.txt")
            formats = settings.write or ["star" if is_cs(settings.particles) else "cs"]
            file = read_particles(
                settings.particles,
                need_images=False,
                passthrough=settings.passthrough,
                need_half_sets=False,
                of_class=settings.class_,
            )
            warnings = list(file.messages)
            file, told = _named(file, settings.project, Path(settings.out))
            warnings += told
            names = [f"particles.{ending}" for ending in dict.fromkeys(formats)]
            for name in names:
                warnings += write_tables(folder / name, file.tables)
            if "particles.star" in names and _counts_from_below(file):
                warnings.append(Finding("positions_upside_down"))
            particles = file.particles
            halves = [int((particles.half == half).sum()) for half in (0, 1)]
            log.info("%s: %d particles", file.path, len(particles))
            log.info("optics groups: %d", len(particles.optics))
            log.info("poses: %s", "yes" if particles.has_pose else "none")
            log.info("half sets: %s", f"{halves[0]} and {halves[1]}" if any(halves) else "none")
            for warning in warnings:
                log.info("%s%s", WARNING, say(warning))
            summary = {
                "particles": len(particles),
                "optics_groups": len(particles.optics),
                "has_pose": particles.has_pose,
                "half_sets": halves,
                "files": names,
                **in_summary(warnings),
                "seconds": {"total": time.perf_counter() - started},
                **provenance(),
            }
            write_json(folder / "summary.json", summary)
        log.info("%s in %s", " and ".join(names), settings.out)
    return Path(settings.out)


def _counts_from_below(file: ParticleFile) -> bool:
    """Whether positions in micrographs come from CryoSPARC."""
    from cryotorch.data.cryosparc.file import is_cs

    return is_cs(file.path) and "cs/location/center_y_frac" in file.tables["particles"]


def _named(
    file: ParticleFile, project: str | None, out: Path
) -> tuple[ParticleFile, list[Finding]]:
    """Image names that lead to the images from the new file, and whether they have changed or lead nowhere.

    With ``project``: relative to it where the images lie in it, absolute otherwise. Without: as they were where the new file
    leads to the same images, absolute where only the old one does.
    """
    import numpy as np

    from cryotorch.data.image_names import find_stacks, format_names

    names, address = [str(stack) for stack in file.stacks], file.particles.address.numpy()
    table = file.tables["particles"].copy()
    if project is not None:
        stacks = find_stacks(names, file.path, project)
        table["rlnImageName"] = format_names(address, stacks, Path(project))
        return replace(file, tables={**file.tables, "particles": table}), []
    lost, moved = [], []
    full = format_names(address, [_absolute(name, file, out, lost, moved) for name in names], out)
    if moved:
        rows = np.isin(address[:, 0], [names.index(name) for name in moved])
        table["rlnImageName"] = np.where(rows, full, table["rlnImageName"])
        file = replace(file, tables={**file.tables, "particles": table})
    told = []
    if moved:
        told.append(Finding("names_absolute", name=moved[0], folder=str(out)))
    if lost:
        told.append(Finding("names_lost", name=lost[0], folder=str(out)))
    return file, told


def _absolute(name: str, file: ParticleFile, out: Path, lost: list[str], moved: list[str]) -> Path:
    """The file of a name; the name is added to ``moved`` or ``lost`` where it does not lead from ``out`` to the same file."""
    from cryotorch.data.image_names import find_stacks

    try:
        found = find_stacks([name], file.path, None)[0].absolute()
    except InputError:
        found = None
    home = out.absolute()
    there = next((x / name for x in (home, *home.parents) if (x / name).is_file()), None)
    if found is None:
        lost += [] if there or Path(name).is_absolute() else [name]
    elif there is None or not there.samefile(found):
        moved.append(name)
    return found or Path(name)
