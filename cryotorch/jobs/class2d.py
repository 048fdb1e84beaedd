"""2D classification: class averages of particles, what they show, and the particles of the classes that are chosen."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.classification.settings import Class2d
from cryotorch.jobs.config.parse import require

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "classes.mrcs", "classes.star", "classes.png"),
    *("particles.star", "particles.cs", "selected.star", "selected.cs"),
    *("tensorboard", "summary.json"),
)


def run(settings: Class2d) -> Path:
    """Class averages and the particles with their class, angle and origin, in ``settings.out``."""
    started = time.perf_counter()
    from cryotorch.jobs.classification.inputs import load
    from cryotorch.jobs.classification.results import with_classes, write
    from cryotorch.jobs.classification.selection import select_from, write_selected
    from cryotorch.jobs.classification.steps import classified
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.report.run_log import RunLog

    given = settings.particles
    require(given is not None, "particles", None, "add particles=<file with the CTF>")
    with RunLog() as log:
        with new_files(settings, FILES, [given]) as folder:
            log.open(folder / "log.txt")
            if Path(given).is_dir():
                select_from(settings, folder, started)
            else:
                read = load(settings)
                made = classified(read)
                posed = with_classes(read, made)
                write_selected(folder, settings, posed, made.judged.suggested.numpy())
                write(folder, read, made, posed, time.perf_counter() - started)
        log.info("The results are in %s, %.1f s", settings.out, time.perf_counter() - started)
    return Path(settings.out)
