"""Images without what a mask leaves out: projections of the rest subtracted, centred on the mask and cut where that is asked for."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.config.parse import require
from cryotorch.jobs.subtraction.settings import Subtract

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "particles.mrcs", "particles_*.mrcs", "particles.star"),
    *("particles.cs", "subtracted.png", "summary.json"),
)
NEEDED = {
    "particles": "add particles=<file with orientations>",
    "volume": "add volume=<run folder of their refinement, or map>",
    "mask": "add mask=<soft mask on what is to be kept>",
}


def run(settings: Subtract) -> Path:
    """New stacks, and lists that lead to them and back, in ``settings.out``."""
    started = time.perf_counter()
    for name, requirement in NEEDED.items():
        require(getattr(settings, name) is not None, name, None, requirement)
    from cryotorch.jobs.files.memory import memory_needed
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.subtraction.inputs import prepare
    from cryotorch.jobs.subtraction.results import write
    from cryotorch.report.run_log import RunLog
    from cryotorch.report.sentences import in_summary, line
    from cryotorch.report.summary import provenance, write_json

    with RunLog() as log:
        with new_files(
            settings, FILES, (settings.particles, settings.volume, settings.mask)
        ) as folder:
            log.open(folder / "log.txt")
            prepared = prepare(settings)
            box, device = prepared.images.box, prepared.made.outside.device
            log.info(line(memory_needed("subtract", box, device)))
            entries, told = write(folder, str(settings.out), prepared)
            told = [*prepared.told, *told]
            for finding in told:
                log.info(line(finding))
            log.info(
                "Of what was subtracted the images show %.1f %% before and %.1f %% after it",
                *(100 * prepared.shown, 100 * prepared.left),
            )
            summary = {
                **entries,
                **in_summary(x for x in told if x.serious),
                "seconds": {"total": time.perf_counter() - started},
                **provenance(),
            }
            write_json(folder / "summary.json", summary)
        log.info("The results are in %s, %.1f s", settings.out, time.perf_counter() - started)
    return Path(str(settings.out))
