"""A first map from images alone."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from cryotorch.jobs.initial_map.settings import AbInitio

log = logging.getLogger("cryotorch")
# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "map.mrc", "map_other_hand.mrc", "map_class_*.mrc"),
    *("particles.star", "particles.cs", "particles_class_*.star", "particles_class_*.cs"),
    *("maps.png", "starts.png", "orientations.png", "tensorboard", "summary.json"),
)


def run(settings: AbInitio) -> Path:
    """Maps, both hands of the largest, and particles with class and pose, in ``settings.out``."""
    started = time.perf_counter()
    import torch

    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.initial_map.inputs import read_inputs
    from cryotorch.jobs.initial_map.results import write
    from cryotorch.jobs.initial_map.steps import make_maps, with_hand
    from cryotorch.report.run_log import RunLog

    with RunLog() as log:
        with new_files(settings, FILES, [settings.particles, settings.like]) as folder:
            log.open(folder / "log.txt")
            with torch.no_grad():
                inputs = read_inputs(settings)
                read = time.perf_counter()
                made = with_hand(make_maps(inputs), inputs)
            seconds = {"read": read - started, "maps": time.perf_counter() - read}
            write(folder, inputs, made, seconds)
        log.info("The results are in %s, %.1f s", settings.out, time.perf_counter() - started)
    return Path(settings.out)
