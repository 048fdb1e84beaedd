"""Editing maps and making masks: settings and course of the job."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.config.parse import require
from cryotorch.jobs.volume.settings import VolumeTools

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "map.mrc", "mask.mrc", "segments.mrc"),
    *("fitted.pdb", "fitted.cif", "fit.json"),
    *("slices.png", "segments.png", "summary.json"),
)


def run(settings: VolumeTools) -> Path:
    """The edited map or mask with its picture and numbers, in ``settings.out``."""
    started = time.perf_counter()
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.memory import memory_needed
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.inputs.device import pick_device
    from cryotorch.jobs.volume.fit import load
    from cryotorch.jobs.volume.results import write
    from cryotorch.jobs.volume.steps import edit
    from cryotorch.report.run_log import RunLog
    from cryotorch.report.sentences import line

    require(settings.volume is not None, "volume", None, "name a map, a mask or an atomic model")
    inputs = [settings.volume, settings.like, settings.fit, *(path for _, path in settings.others)]
    with RunLog() as log:
        with new_files(settings, FILES, inputs) as folder:
            log.open(folder / "log.txt")
            device = pick_device(settings.device)
            work = load(settings, device)
            log.info(line(memory_needed("volume_tools", len(work.volume), device)))
            work = edit(work, settings)
            work_begins(settings)
            write(folder, work, settings, started)
        tell_end(settings, started)
    return Path(settings.out)
