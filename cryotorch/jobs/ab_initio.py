"""A first map from images alone."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.initial_map.settings import AbInitio

# Everything the job may leave in ``out``.
FILES = (
    *("config.yaml", "log.txt", "map.mrc", "map_other_hand.mrc", "map_class_*.mrc"),
    *("particles.star", "particles.cs", "particles_class_*.star", "particles_class_*.cs"),
    *("maps.png", "starts.png", "orientations.png", "tensorboard", "checkpoints/iteration_*.ckpt"),
    "summary.json",
)
LATER = ("like", "model")  # parameters that count once the maps are made


def run(settings: AbInitio) -> Path:
    """Maps, both hands of the largest, and particles with class and pose, in ``settings.out``."""
    started = time.perf_counter()
    import torch

    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.initial_map.hand import known_hand, with_hand
    from cryotorch.jobs.initial_map.inputs import read_inputs
    from cryotorch.jobs.initial_map.live import Live
    from cryotorch.jobs.initial_map.results import write
    from cryotorch.jobs.initial_map.steps import help_make_maps, make_maps
    from cryotorch.jobs.stages.checkpoints import stage_fingerprint
    from cryotorch.jobs.stages.run import staged

    out, files = Path(str(settings.out)), (settings.particles, settings.like, settings.model)
    with staged(settings, FILES, files, LATER) as run, torch.no_grad():
        inputs = read_inputs(settings, run.device)
        run.folder.refuse_inputs(inputs.file.stacks)
        read = time.perf_counter()
        if run.team.rank > 0:
            help_make_maps(inputs, run.team)
            return out
        of = stage_fingerprint(inputs.settings, inputs.file, inputs.particles, inputs.images)
        known_hand(inputs)  # to be refused now, not in the end
        if run.begin(of):
            run.heard.append(Live(out / "tensorboard", inputs))
            made = with_hand(make_maps(inputs, run.team, run.kept), inputs)
            seconds = {"read": read - started, "maps": time.perf_counter() - read}
            write(out, inputs, made, seconds)
            run.finish()
            tell_end(settings, started)
    return out
