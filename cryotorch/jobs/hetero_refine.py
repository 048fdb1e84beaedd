"""Several maps, and class and pose of all particles, from initial maps."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.classification3d.searched_settings import HeteroRefine

# Everything the job may leave in ``out``.
FILES = ()


def run(settings: HeteroRefine) -> Path:
    """Half maps of each class, and particles with class and pose, in ``settings.out``."""
    started = time.perf_counter()
    import torch

    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs.classification3d.searched_inputs import map_paths, read_inputs
    from cryotorch.jobs.classification3d.searched_steps import help_refine, refine_classes
    from cryotorch.jobs.stages.checkpoints import stage_fingerprint
    from cryotorch.jobs.stages.run import log, staged

    out = Path(str(settings.out))
    files = (settings.particles, settings.mask, *map_paths(settings.volume))
    with staged(settings, FILES, files) as run, torch.no_grad():
        inputs = read_inputs(settings, run.device)
        run.folder.refuse_inputs(inputs.file.stacks)
        read = time.perf_counter()
        if run.team.rank > 0:
            help_refine(inputs, run.team)
            return out
        of = stage_fingerprint(inputs.settings, inputs.file, inputs.particles, inputs.images)
        if run.begin(of):
            made = refine_classes(inputs, run.team, run.kept)
            seconds = {"read": read - started, "classes": time.perf_counter() - read}
            write(out, inputs, made, seconds)
            run.finish()
            log.info("The results are in %s, %.1f s", out, time.perf_counter() - started)
    return out
