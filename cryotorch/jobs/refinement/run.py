"""The course of a refinement job, the same for all of them: input, state, trainer, results."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import lightning as L
import torch
from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError, Stopped
from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import TrainerSettings, in_angstrom, require, shown
from cryotorch.jobs.files.dry_run import work_begins
from cryotorch.jobs.files.ending import tell_end
from cryotorch.jobs.files.fingerprint import fingerprint
from cryotorch.jobs.files.memory import memory_needed, require_search_room, sums_memory
from cryotorch.jobs.files.ranks import rank, starter
from cryotorch.jobs.files.ranks import started as started_processes
from cryotorch.jobs.files.resume import resuming
from cryotorch.jobs.files.run_folder import RunFolder, damaged_checkpoint
from cryotorch.jobs.fsc.mask import FOCUS
from cryotorch.jobs.inputs.particles import load_particles, normalize_needed
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.jobs.refinement.advice import JudgeClaims
from cryotorch.jobs.refinement.settings import RefineConfig
from cryotorch.jobs.refinement.start_advice import began_with
from cryotorch.jobs.refinement.trainer import callbacks, fit, machine, make_trainer, world_size
from cryotorch.particles import Particles, ignore
from cryotorch.refinement.em.initialise import initialise_state
from cryotorch.refinement.em.module import Refinement, coming
from cryotorch.refinement.em.out_of_memory import batch_size, explain_out_of_memory
from cryotorch.refinement.em.schedule import Stop
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.runtime.watch import Watch
from cryotorch.refinement.settings import EMSettings
from cryotorch.report.log import IterationLog
from cryotorch.report.run_log import RunLog
from cryotorch.report.sentences import line, say
from cryotorch.results import IterationResult

log = logging.getLogger("cryotorch")
S = TypeVar("S", bound=RefineConfig)


@dataclass(frozen=True)
class Inputs:
    """What a job makes of its files before the first iteration.

    Attributes:
        settings: the parameters in the algorithm's units, masks included.
        volume: (d, d, d), or (2, d, d, d) with a map for each half set.
        particles: with their half sets.
        beginning: what is true of a run that begins, not of one that goes on.
        extras: entries of ``summary.json``.
        warnings: about them, which the end of the run repeats.
    """

    settings: EMSettings
    volume: Tensor
    particles: Particles
    beginning: list[Finding]
    extras: dict[str, object]
    warnings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Ready:
    """What a refinement read: the particle file, its images, the parameters with lengths in Å, and what the job made of them."""

    file: ParticleFile
    images: ParticleImages
    config: RefineConfig
    inputs: Inputs


def read_inputs(
    config: S,
    prepare: Callable[[S, ParticleFile, ParticleImages, Tensor], Inputs],
    refuse: Callable[[list[Path]], None] = lambda stacks: None,
) -> Ready:
    """Read and check everything that a refinement starts from; ``refuse`` raises InputError for stacks that lie where they must not."""
    group = symmetry_group(config.symmetry)
    keep = config.half_sets == "keep"
    file = load_particles(config.particles, config.class_, config, need_half_sets=keep)
    refuse(file.stacks)
    optics = ignore(
        file.particles.optics,
        config.ignore_tilt,
        config.ignore_trefoil,
        config.ignore_tetra,
        config.ignore_anisomag,
    )
    file = replace(file, particles=file.particles.replace(optics=optics))
    cache = (config.cache_dtype, config.cache_limit)
    images = ParticleImages(file, config.box_size, config.cache_dir, config.invert, *cache)
    images.normalize = normalize_needed(images, config.normalize)
    config = in_angstrom(config, file.pixel_size)
    return Ready(file, images, config, prepare(config, file, images, group))


def refine(
    config: S,
    prepare: Callable[[S, ParticleFile, ParticleImages, Tensor], Inputs],
    log: RunLog,
    started: float,
) -> None:
    """From a particle stack to validated maps in ``config.out``.

    Args:
        prepare: (parameters with lengths in Å, particle file, images, point group) -> inputs; it logs what is worth knowing.
        started: of the job, on time.perf_counter.
    """
    inputs = (config.particles, config.volume, config.mask)
    refuse_processes(config.trainer)
    with watched(config) as watch, RunFolder(config, inputs) as folder:
        _refine(config, prepare, folder, log, started, watch)


def refuse_processes(trainer: TrainerSettings) -> None:
    """Raises InputError where torchrun or srun has not started as many processes as the trainer settings mean."""
    by, meant = starter(), world_size(trainer)
    if by and started_processes() != meant:
        raise InputError(
            f"{by} has started {started_processes()} processes, but trainer.devices={shown(trainer.devices)} trainer.num_nodes={trainer.num_nodes} "
            f"mean {meant}: give the devices of one machine and the number of machines"
        )
    if by == "srun" and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise InputError(
            f"srun does not say how many processes are on one machine: add --ntasks-per-node={meant // trainer.num_nodes} to it"
        )


def watched(config: RefineConfig) -> AbstractContextManager[Watch | None]:
    """What looks after signals and the other processes of a run that has some; where torchrun or srun starts them, they do the latter."""
    if world_size(config.trainer) == 1:
        return nullcontext()
    return Watch(0 if starter() else rank(), resuming(config))


def _refine(
    config: S,
    prepare: Callable[[S, ParticleFile, ParticleImages, Tensor], Inputs],
    folder: RunFolder,
    log: RunLog,
    started: float,
    watch: Watch | None,
) -> None:
    read = read_inputs(config, prepare, folder.refuse_inputs)
    file, images, inputs = read.file, read.images, read.inputs
    particles, settings = inputs.particles, inputs.settings
    belongs = fingerprint(config, file, particles, images, config.symmetry)
    checkpoint, saved, damaged = folder.checkpoint(belongs)
    for reason in damaged:
        log.info(damaged_checkpoint(reason))
    if checkpoint is None:
        for note in inputs.beginning:
            log.info(line(note))
    else:
        decision, changes = coming(saved, settings), folder.changes(config)
        if isinstance(decision, Stop):
            log.info("The run in %s has finished already: %s.", folder.path, say(decision.reason))
            return
        log.info("goes on from %s, with its poses and half sets", checkpoint)
        for change in changes:
            log.info("resumed with %s", change)
    extras: dict = {"mask": config.mask, "symmetry": config.symmetry, **inputs.extras}
    max_epochs = config.max_iterations + config.extra_final_passes
    judge = judge_of(inputs)
    reports = (folder, file, extras, belongs, started, config.write, config.profile, judge)
    watchers = callbacks(*reports)
    place = None if config.dry_run else folder.path
    trainer = make_trainer(place, config.trainer, max_epochs, watchers, watch)
    module = first_module(read, trainer, extras, fresh=checkpoint is None)
    extras["seconds"] = {"setup": round(time.perf_counter() - started, 3)}
    if not config.dry_run:
        log.open(folder.open(config) / "log.txt")
    elif trainer.world_size > 1:  # else the first batches tell how long it takes
        work_begins(config)
    try:
        fit(trainer, module, checkpoint, watch)
    except KeyboardInterrupt as stop:
        code = (watch and watch.code) or getattr(stop, "code", 130)
        raise Stopped(resuming(config), code=code) from None
    tell_end(config, started)


def first_module(
    read: Ready, trainer: L.Trainer, extras: dict[str, object], fresh: bool = True
) -> Refinement:
    """The module before its first iteration; ``extras`` gets what it runs on, ``fresh``: no checkpoint replaces its state."""
    images, config, inputs = read.images, read.config, read.inputs
    settings, particles = inputs.settings, inputs.particles
    device, size = trainer.strategy.root_device, config.minibatch_size
    size = batch_size(images.box, device, trainer.world_size) if size == "auto" else size
    require_search_room(settings, size, device)
    more = 2 * sums_memory(images.box)
    log.info(line(memory_needed("refinement", images.box, device, more)))
    batches = Batches(images, particles.half, size, config.seed)
    extras |= {"device": machine(trainer), "minibatch_size": size}
    log.info(
        "%d particles of %d pixels, %.4g Å, on %s",
        *(len(particles), images.box, images.pixel_size, extras["device"]),
    )
    with torch.no_grad(), explain_out_of_memory(images.box):
        state, notes = initialise_state(
            particles,
            inputs.volume,
            batches,
            settings,
            settings.box * settings.pixel_size / settings.schedule.first_limit,
            device,
            fresh=fresh,
        )
    for note in notes:
        log.info(line(note))
    return Refinement(state, settings, batches)


def judge_of(inputs: Inputs) -> JudgeClaims:
    """What judges the half maps of every iteration."""
    kind = "generated" if inputs.settings.mask.fsc_mask is None else "given"
    kind = kind if inputs.settings.local is None else FOCUS
    return JudgeClaims(kind, began_with(inputs.volume, inputs.settings, inputs.warnings))


def refine_in_memory(
    config: S, prepare: Callable[[S, ParticleFile, ParticleImages, Tensor], Inputs]
) -> tuple[IterationResult, ParticleFile]:
    """The same as ``refine`` on one device, without a folder: what the last iteration left, and the file of its particles."""
    several = "from Python a refinement runs on one device, use the job for several"
    alone = world_size(config.trainer) == 1
    require(alone, "trainer.devices", config.trainer.devices, several)
    read = read_inputs(config, prepare)
    for note in read.inputs.beginning:
        log.info(say(note))
    max_epochs = config.max_iterations + config.extra_final_passes
    watchers = [judge_of(read.inputs), IterationLog()]
    trainer = make_trainer(None, config.trainer, max_epochs, watchers)
    module = first_module(read, trainer, {})
    fit(trainer, module, None)
    assert module.result is not None  # fit raises, or does an iteration
    return module.result, read.file


def run_log() -> RunLog:
    """The log of this process's rank."""
    return RunLog(rank())
