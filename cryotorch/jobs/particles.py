"""Lists of particles between refinements: joined, filtered, compared, thinned, expanded, recentred, restacked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from cryotorch.jobs.curation.settings import Particles

if TYPE_CHECKING:
    from cryotorch.jobs.curation.steps import Step

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "particles.mrcs", "particles_*.mrcs", "particles.star"),
    *("particles.cs", "particles_*.star", "particles_*.cs", "particles.png", "summary.json"),
)


def run(settings: Particles) -> Path:
    """The particles that are left, as they are asked for, in ``settings.out``."""
    started = time.perf_counter()
    from cryotorch.jobs.curation.results import entries, halves_in_words, write
    from cryotorch.jobs.curation.steps import curated, files_of, refuse_groups
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.report.run_log import RunLog
    from cryotorch.report.sentences import in_summary, line
    from cryotorch.report.summary import provenance, write_json

    refuse_groups(settings)
    inputs = [*files_of(settings), settings.intersect, settings.subtract]
    inputs += [settings.micrographs] if isinstance(settings.micrographs, str) else []
    with RunLog() as log:

        def say(step: Step) -> None:
            log.info("%-17s %11s particles: %s", step.name, f"{step.after:,}", step.said)

        with new_files(settings, FILES, inputs) as folder:
            log.open(folder / "log.txt")
            course = curated(settings, say)
            work_begins(settings)
            names = write(folder, course, settings)
            log.info("%s", halves_in_words(course.particles))
            for finding in course.told:
                log.info(line(finding))
            summary = {
                **entries(course, settings, names),
                **in_summary(x for x in course.told if x.serious),
                "seconds": {"total": time.perf_counter() - started},
                **provenance(),
            }
            write_json(folder / "summary.json", summary)
        counts = f"{len(course.start):,} at first, {len(course.particles):,} in the end"
        log.info("%s", counts)
        tell_end(settings, started)
    return Path(settings.out)
