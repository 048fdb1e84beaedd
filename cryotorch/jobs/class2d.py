"""2D classification: class averages of particles, what they show, and the particles of the classes that are chosen."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.classification.settings import Class2d
from cryotorch.jobs.config.parse import require

# Everything the job may leave in ``out``.
FILES = (
    *("config.yaml", "log.txt", "classes.mrcs", "classes.star", "classes.png"),
    *("particles.star", "particles.cs", "selected.star", "selected.cs"),
    *("tensorboard", "checkpoints/iteration_*.ckpt", "summary.json"),
)
LATER = ("select",)  # parameters that count once there are classes
SAVED_EVERY = 60.0  # seconds, at most


def run(settings: Class2d) -> Path:
    """Class averages and the particles with their class, angle and origin, in ``settings.out``."""
    started = time.perf_counter()
    require(settings.particles is not None, "particles", None, "add particles=<file with the CTF>")
    if Path(str(settings.particles)).is_dir():
        return _select(settings, started)
    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs.classification.inputs import load
    from cryotorch.jobs.classification.results import with_classes, write
    from cryotorch.jobs.classification.selection import write_selected
    from cryotorch.jobs.classification.steps import classified, help_classify
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.stages.checkpoints import stage_fingerprint
    from cryotorch.jobs.stages.run import staged

    out = Path(str(settings.out))
    with staged(settings, FILES, [settings.particles], LATER) as run:
        read = load(settings, run.device)
        run.folder.refuse_inputs(read.file.stacks)
        if run.team.rank > 0:
            help_classify(read, run.team)
            return out
        of = stage_fingerprint(read.settings, read.file, read.particles, read.images)
        if settings.dry_run:  # as far as its pace needs
            classified(read, run.team)
        if run.begin(of, SAVED_EVERY, timed=True):
            made = classified(read, run.team, run.kept)
            run.save()
            posed = with_classes(read, made)
            write_selected(out, settings, posed, made.judged.suggested.numpy())
            write(out, read, made, posed, time.perf_counter() - started)
            run.finish()
            tell_end(settings, started)
    return out


def _select(settings: Class2d, started: float) -> Path:
    """The particles of chosen classes of the run whose folder takes the place of particles."""
    from cryotorch.jobs.classification.selection import select_from
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.files.ranks import refuse_several
    from cryotorch.report.run_log import RunLog

    refuse_several("class2d with the folder of a run")
    with RunLog() as file:
        with new_files(settings, FILES, [settings.particles]) as folder:
            file.open(folder / "log.txt")
            select_from(settings, folder, started)
        tell_end(settings, started)
    return Path(str(settings.out))
