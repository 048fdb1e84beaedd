"""A map from particles whose poses are known."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cryotorch.errors import InputError
from cryotorch.jobs.reconstruction.settings import Reconstruct

if TYPE_CHECKING:
    from cryotorch.jobs.reconstruction.from_poses import Reconstructed

log = logging.getLogger("cryotorch")
# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "map.mrc", "map_sharp.mrc", "map_half_A.mrc", "map_half_B.mrc"),
    *("mask_fsc.mrc", "particles.star", "particles.cs", "fsc.txt", "fsc_*.xml", "fsc.png"),
    *("mask.png", "slices.png", "guinier.png", "orientations.png", "tensorboard", "summary.json"),
)


def run(settings: Reconstruct) -> Path:
    """Half maps, map, FSC and particles with the poses that were used, in ``settings.out``."""
    started = time.perf_counter()
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.reconstruction.from_poses import reconstructed
    from cryotorch.report.run_log import RunLog

    if settings.particles is None:
        raise InputError("job=reconstruct needs particles: add particles=<file with poses>")
    inputs = (settings.particles, settings.mask)
    with RunLog() as log:
        with new_files(settings, FILES, inputs) as folder:
            log.open(folder / "log.txt")
            write_files(settings, folder, reconstructed(settings, started))
        tell_end(settings, started)
    return Path(settings.out)


def write_files(settings: Reconstruct, folder: Path, made: Reconstructed) -> None:
    """Particles, maps, curves, figures and summary into ``folder``, from where they move to ``settings.out``."""
    from cryotorch.data.particle_file import write_particles
    from cryotorch.jobs.reconstruction.results import write
    from cryotorch.report.sentences import line

    for ending in dict.fromkeys(settings.write):
        name = f"particles.{ending}"
        for message in write_particles(folder / name, made.file, made.particles):
            # not the folder that the files are in while the job runs
            log.info(line(message.plus(file=str(Path(settings.out) / name))))
    write(folder, Path(settings.out), made.found, made.particles, made.group, made.extras)
