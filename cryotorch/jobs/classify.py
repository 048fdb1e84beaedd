"""Classes of particles at the poses they have."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.classification3d.fixed_settings import Classify

# Everything the job may leave in ``out``.
FILES = (
    *("config.yaml", "log.txt", "map_class_*.mrc", "half_a_class_*.mrc", "half_b_class_*.mrc"),
    *("fsc_class_*.txt", "particles.star", "particles.cs"),
    *("particles_class_*.star", "particles_class_*.cs", "classes.png", "class_flow.png"),
    *("tensorboard", "checkpoints/iteration_*.ckpt", "summary.json"),
)
PAUSE = 30.0  # seconds between two checkpoints at least


def run(settings: Classify) -> Path:
    """Half maps of each class, and particles with class and posteriors, in ``settings.out``."""
    started = time.perf_counter()
    import torch

    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs.classification3d.fixed_inputs import read_inputs
    from cryotorch.jobs.classification3d.fixed_steps import classified, take_part
    from cryotorch.jobs.classification3d.live import Live
    from cryotorch.jobs.classification3d.results import extras, judge_classes, write
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.stages.checkpoints import stage_fingerprint
    from cryotorch.jobs.stages.run import staged

    out = Path(str(settings.out))
    files = (settings.particles, settings.mask, settings.solvent_mask)
    with staged(settings, FILES, files) as run, torch.no_grad():
        inputs = read_inputs(settings, run.device)
        run.folder.refuse_inputs(inputs.file.stacks)
        read = time.perf_counter()
        if run.team.rank > 0:
            take_part(inputs, run.team)
            run.team.serve()
            return out
        of = stage_fingerprint(inputs.settings, inputs.file, inputs.particles, inputs.images)
        if run.begin(of, PAUSE):
            run.heard.append(Live(out / "tensorboard"))
            found, damaged = classified(inputs, run.team, run.kept)
            run.save()
            result = judge_classes(found, run.device, settings.seed)
            seconds = {"read": read - started, "classes": time.perf_counter() - read}
            more = extras(inputs.settings, damaged, seconds)
            write(out, out, result, settings.write, more)
            run.finish()
            tell_end(settings, started)
    return out
