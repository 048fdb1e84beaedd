"""Defocus and aberrations from particles whose poses are known."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.config.parse import require
from cryotorch.jobs.ctf.settings import CtfRefine

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "particles.star", "particles.cs", "defocus.png", "positions.png"),
    *("optics_*.png", "magnification.png", "fsc.png", "tensorboard", "summary.json"),
)
NEEDED = {
    "particles": "add particles=<file with orientations and half sets>",
    "volume": "add volume=<run folder with half maps>, or a map and max_resolution=<Å>",
}


def run(settings: CtfRefine) -> Path:
    """Particles with new defocus and optics, and how sure they are, in ``settings.out``."""
    started = time.perf_counter()
    for name, requirement in NEEDED.items():
        require(getattr(settings, name) is not None, name, None, requirement)
    from cryotorch.jobs.ctf.inputs import load
    from cryotorch.jobs.ctf.passes import refine
    from cryotorch.jobs.ctf.results import write
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.memory import memory_needed
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.report.run_log import RunLog

    inputs = (settings.particles, settings.volume, settings.mask)
    with RunLog() as log:
        with new_files(settings, FILES, inputs) as folder:
            log.open(folder / "log.txt")
            read = load(settings)
            maps = read.references
            work_begins(settings, memory_needed("ctf_refine", maps.shape[-1], maps.device))
            ready = time.perf_counter()
            found, begun, loud = refine(read)
            done = time.perf_counter()
            seconds = {"total": done - started, "read": ready - started, "fit": done - ready}
            write(folder, read, found, begun, seconds, loud)
        tell_end(settings, started)
    return Path(settings.out)
