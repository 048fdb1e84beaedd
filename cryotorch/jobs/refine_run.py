"""The course of a refinement job, the same for all of them: input, state, trainer, results."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError, Stopped
from cryotorch.jobs import refinement as r
from cryotorch.jobs.fingerprint import fingerprint
from cryotorch.jobs.maps import symmetry_group
from cryotorch.jobs.memory import require_search_room
from cryotorch.jobs.particle_input import load_particles
from cryotorch.jobs.ranks import rank, started, starter
from cryotorch.jobs.refine_settings import RefineSettings
from cryotorch.jobs.run_advice import JudgeClaims
from cryotorch.jobs.run_folder import RunFolder
from cryotorch.jobs.settings import TrainerSettings, in_angstrom, shown
from cryotorch.jobs.start_advice import began_with
from cryotorch.ops.claims import NOISE_ENDS, NYQUIST_ENDS
from cryotorch.particles import Particles, ignore
from cryotorch.refine.distributed import Batches
from cryotorch.refine.memory import told_plainly
from cryotorch.refine.module import Refinement, coming
from cryotorch.refine.schedule import Stop
from cryotorch.refine.start import begin
from cryotorch.refine.state import Settings
from cryotorch.refine.watch import Watch
from cryotorch.report.run_log import RunLog
from cryotorch.report.summary import ending
from cryotorch.results import IterationResult, told

S = TypeVar("S", bound=RefineSettings)


@dataclass(frozen=True)
class Inputs:
    """What a job makes of its files before the first iteration.

    Attributes:
        plan: the parameters in the algorithm's units, masks included.
        volume: (d, d, d), or (2, d, d, d) with a map for each half set.
        particles: with their half sets.
        beginning: sentences that are true of a run that begins, not of one that goes on.
        extras: entries of ``summary.json``.
        warnings: sentences about them that the end of the run repeats.
    """

    plan: Settings
    volume: Tensor
    particles: Particles
    beginning: list[str]
    extras: dict[str, object]
    warnings: list[str] = field(default_factory=list)


def refine(
    given: S,
    prepare: Callable[[S, ParticleFile, ParticleImages, Tensor], Inputs],
    log: RunLog,
    started: float,
) -> None:
    """From a particle stack to validated maps in ``given.out``.

    Args:
        prepare: (settings with lengths in Å, particle file, images, point group) -> inputs; it logs what is worth knowing.
        started: of the job, on time.perf_counter.
    """
    inputs = (given.particles, given.volume, given.mask)
    refuse_processes(given.trainer)
    with watched(given) as watch, RunFolder(given, inputs) as folder:
        _refine(given, prepare, folder, log, started, watch)


def refuse_processes(trainer: TrainerSettings) -> None:
    """Raises InputError where torchrun or srun has not started as many processes as the trainer settings mean."""
    by, meant = starter(), r.world_size(trainer)
    if by and started() != meant:
        raise InputError(
            f"{by} has started {started()} processes, but trainer.devices={shown(trainer.devices)} trainer.num_nodes={trainer.num_nodes} "
            f"mean {meant}: give the devices of one machine and the number of machines"
        )
    if by == "srun" and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise InputError(
            f"srun does not say how many processes are on one machine: add --ntasks-per-node={meant // trainer.num_nodes} to it"
        )


def watched(given: RefineSettings) -> AbstractContextManager[Watch | None]:
    """What looks after signals and the other processes of a run that has some; where torchrun or srun starts them, they do the latter."""
    if r.world_size(given.trainer) == 1:
        return nullcontext()
    return Watch(0 if starter() else rank(), resuming(given))


def resuming(given: RefineSettings) -> str:
    """How to go on with a run."""
    return f"to go on, cryotorch out={shlex.quote(str(given.out))} resume=true"


def _refine(
    given: S,
    prepare: Callable[[S, ParticleFile, ParticleImages, Tensor], Inputs],
    folder: RunFolder,
    log: RunLog,
    started: float,
    watch: Watch | None,
) -> None:
    group = symmetry_group(given.symmetry)
    file = load_particles(given.particles, given.class_, need_half_sets=given.half_sets == "keep")
    folder.refuse_inputs(file.stacks)
    optics = ignore(
        file.particles.optics,
        given.ignore_tilt,
        given.ignore_trefoil,
        given.ignore_tetra,
        given.ignore_anisomag,
    )
    file = replace(file, particles=file.particles.replace(optics=optics))
    cache = (given.cache_dtype, given.cache_limit)
    images = ParticleImages(file, given.box_size, given.cache_dir, given.invert, *cache)
    images.normalise = r.normalise_needed(images, given.normalize)
    settings = in_angstrom(given, file.pixel_size)
    ready = prepare(settings, file, images, group)
    particles, plan = ready.particles, ready.plan
    belongs = fingerprint(given, file, particles, images, settings.symmetry)
    checkpoint, saved, damaged = folder.checkpoint(belongs)
    for sentence in damaged:
        log.info("WARNING: %s: the run goes on from the one before", sentence)
    if checkpoint is None:
        for sentence in ready.beginning:
            log.info(sentence)
    else:
        then, changes = coming(saved, plan), folder.changes(given)
        if isinstance(then, Stop):
            log.info("The run in %s has finished already: %s.", folder.path, then.reason)
            return
        log.info("goes on from %s, with its poses and half sets", checkpoint)
        for change in changes:
            log.info("resumed with %s", change)
    extras: dict = {"mask": settings.mask, "symmetry": settings.symmetry, **ready.extras}
    most = settings.max_iterations + settings.extra_final_passes
    kind = "generated" if plan.mask.judge is None else "given"
    judge = JudgeClaims(kind, began_with(ready.volume, plan, ready.warnings))
    reports = (folder, file, extras, belongs, started, given.write, given.profile, judge)
    callbacks = r.callbacks(*reports)
    trainer = r.make_trainer(folder.path, settings.trainer, most, callbacks, watch)
    device, size = trainer.strategy.root_device, settings.minibatch_size
    size = r.batch_size(images.box, device, trainer.world_size) if size == "auto" else size
    require_search_room(plan, size, device)
    batches = Batches(images, particles.half, size, given.seed)
    extras |= {"device": r.machine(trainer), "minibatch_size": size}
    log.info(
        "%d particles of %d pixels, %.4g Å, on %s",
        len(particles),
        images.box,
        images.pixel_size,
        extras["device"],
    )
    with torch.no_grad(), told_plainly(images.box):
        state, notes = begin(
            *(particles, ready.volume, batches, plan, settings.initial_resolution),
            device,
            fresh=checkpoint is None,
        )
    for note in notes:
        log.info(note)
    extras["seconds"] = {"setup": round(time.perf_counter() - started, 3)}
    module = Refinement(state, plan, batches)
    log.open(folder.open(given) / "log.txt")
    try:
        r.fit(trainer, module, checkpoint, watch)
    except KeyboardInterrupt as stop:
        code = (watch and watch.code) or getattr(stop, "code", 130)
        raise Stopped(resuming(given), code=code) from None
    seconds = time.perf_counter() - started
    log.info("%s, %.0f s. The results are in %s", conclusion(module.result), seconds, folder.path)


def conclusion(result: IterationResult) -> str:
    """What a run claims, or that it claims nothing."""
    if not math.isfinite(result.resolution):
        return "No resolution can be claimed, see the warnings"
    bound = {
        NYQUIST_ENDS: ", the limit of the pixel size",
        NOISE_ENDS: ", beyond it the half maps agree no further than noise may",
    }
    return f"Resolution {told(result.resolution)}{bound.get(ending(result), '')}"


def run_log() -> RunLog:
    """The log of this process's rank."""
    return RunLog(rank())
