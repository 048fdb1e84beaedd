"""Continuous motion at known poses: components of variability, which of them are real, and where every particle lies."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.components.settings import Variability
from cryotorch.jobs.config.parse import require

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "mean.mrc", "mask.mrc", "component_*.mrc", "frames_*/frame_*.mrc"),
    *(
        "unshared_component_*.mrc",
        "components.cxc",
        "particles.star",
        "particles.cs",
        "components.png",
    ),
    *("coordinates.png", "fsc.png", "tensorboard", "summary.json"),
)


def run(settings: Variability) -> Path:
    """Components, frames along them, and the particles with their coordinates, in ``settings.out``."""
    started = time.perf_counter()
    require(settings.particles is not None, "particles", None, "add particles=<file with poses>")
    from cryotorch.jobs.components.inputs import load
    from cryotorch.jobs.components.results import write
    from cryotorch.jobs.components.steps import analysed
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.report.run_log import RunLog

    with RunLog() as log:
        with new_files(settings, FILES, (settings.particles, settings.mask)) as folder:
            log.open(folder / "log.txt")
            read = load(settings)
            made = analysed(read)  # of a dry run as far as its pace needs
            work_begins(settings)
            write(folder, read, made, time.perf_counter() - started)
        tell_end(settings, started)
    return Path(str(settings.out))
