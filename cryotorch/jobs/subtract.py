"""Images without what a mask leaves out: projections of the rest subtracted, centred on the mask and cut where that is asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from cryotorch.jobs.config.parse import require
from cryotorch.jobs.subtraction.settings import Subtract

if TYPE_CHECKING:
    from cryotorch.findings import Finding
    from cryotorch.jobs.subtraction.inputs import Prepared

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
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.memory import memory_needed
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.subtraction.inputs import prepare
    from cryotorch.report.run_log import RunLog
    from cryotorch.report.sentences import line

    inputs = (settings.particles, settings.volume, settings.mask)
    with RunLog() as log:
        with new_files(settings, FILES, inputs) as folder:
            log.open(folder / "log.txt")
            prepared = prepare(settings)
            box, device = prepared.images.box, prepared.made.outside.device
            work_begins(settings, memory_needed("subtract", box, device))
            read = time.perf_counter() - started
            for finding in write_files(settings, folder, prepared, read):
                log.info(line(finding))
            log.info("Of what was subtracted %.1f %% is left in the images", 100 * prepared.left)
        tell_end(settings, started)
    return Path(str(settings.out))


def write_files(
    settings: Subtract, folder: Path, prepared: Prepared, read: float = 0.0
) -> list[Finding]:
    """Stacks, lists, picture and summary into ``folder``, from where they move to ``settings.out``; all that is to be said.

    ``read``: seconds that it took to prepare.
    """
    from cryotorch.jobs.subtraction.results import write
    from cryotorch.report.sentences import in_summary
    from cryotorch.report.summary import provenance, write_json

    started = time.perf_counter()
    entries, told = write(folder, str(settings.out), prepared)
    told = [*prepared.told, *told]
    seconds = {"read": read, "write": time.perf_counter() - started}
    serious = in_summary(x for x in told if x.serious)
    write_json(folder / "summary.json", {**entries, **serious, "seconds": seconds, **provenance()})
    return told
