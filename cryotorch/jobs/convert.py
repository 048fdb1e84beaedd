"""Particle files from RELION's format to CryoSPARC's and back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
    dry_run: bool

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
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.inputs.image_names import lead_from
    from cryotorch.jobs.inputs.source_run import doubts
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
            file, told, _ = lead_from(file, settings.project, Path(settings.out))
            warnings += [*told, *doubts(settings.particles)]
            work_begins(settings)
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
        tell_end(settings, started)
    return Path(settings.out)


def _counts_from_below(file: ParticleFile) -> bool:
    """Whether positions in micrographs come from CryoSPARC."""
    from cryotorch.data.cryosparc.file import is_cs

    return is_cs(file.path) and "cs/location/center_y_frac" in file.tables["particles"]
