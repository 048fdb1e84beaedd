"""Several maps, and class and pose of all particles, from initial maps."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.classification3d.searched_settings import HeteroRefine

# Everything the job may leave in ``out``.
FILES = (
    *("config.yaml", "log.txt", "map_class_*.mrc", "half_a_class_*.mrc", "half_b_class_*.mrc"),
    *("fsc_class_*.txt", "particles.star", "particles.cs", "particles_class_*.star"),
    *("particles_class_*.cs", "particles_junk.star", "particles_junk.cs", "classes.png"),
    *("class_flow.png", "tensorboard", "checkpoints/iteration_*.ckpt", "summary.json"),
)
PAUSE = 30.0  # seconds between two checkpoints at least


def run(settings: HeteroRefine) -> Path:
    """Half maps of each class, and particles with class and pose, in ``settings.out``."""
    started = time.perf_counter()
    import torch

    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs.classification3d.live import Live
    from cryotorch.jobs.classification3d.results import judge_classes, write
    from cryotorch.jobs.classification3d.searched_inputs import map_paths, read_inputs
    from cryotorch.jobs.classification3d.searched_steps import extras, help_refine, refine_classes
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.stages.checkpoints import stage_fingerprint
    from cryotorch.jobs.stages.run import staged

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
        if run.begin(of, PAUSE):
            run.heard.append(Live(out / "tensorboard"))
            found, damaged = refine_classes(inputs, run.team, run.kept)
            run.save()
            result = judge_classes(found, run.device, settings.seed)
            seconds = {"read": read - started, "classes": time.perf_counter() - read}
            write(out, out, result, settings.write, extras(inputs, damaged, seconds))
            run.finish()
            tell_end(settings, started)
    return out
