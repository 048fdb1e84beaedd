"""A refinement of images made on the device, as job=homo_refine does it but without its files."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from benchmarks.ribosome import MadeImages, ribosome_like
from cryotorch.errors import InputError
from cryotorch.jobs.files.memory import memory_of
from cryotorch.jobs.homo_refine import HomoRefine, global_em_settings
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.jobs.refinement.trainer import fit, make_trainer
from cryotorch.jobs.simulation.settings import Simulate
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.refinement.em.initialise import initialise_state
from cryotorch.refinement.em.module import Refinement
from cryotorch.refinement.em.out_of_memory import batch_size, free_memory, images_stay
from cryotorch.refinement.half_sets import assign_half_sets
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.report.progress import IterationBar


@dataclass
class Watch(Callback):
    """Wall seconds and particles of every iteration, and when its batches ended."""

    seconds: list[float] = field(default_factory=list)
    particles: list[int] = field(default_factory=list)
    ends: list[list[float]] = field(default_factory=list)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """Another iteration."""
        self.particles.append(0)
        self.ends.append([time.perf_counter()])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Without waiting for the device: the polish of the poses keeps the host close to it."""
        self.particles[-1] += len(batch.index)
        self.ends[-1].append(time.perf_counter())

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """The maps are on the host, so the device is done."""
        self.seconds.append(time.perf_counter() - self.ends[-1][0])

    def first_use(self) -> float:
        """How much longer the first batch took than is usual in the first iteration."""
        each = [after - before for before, after in itertools.pairwise(self.ends[0])]
        return max(0.0, each[0] - median(each))


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        where: the images lay.
        seconds: of the parts in order: "simulate", molecule and images; "start", the device's first
            steps; "setup", ``begin``, which makes 400 of the images again; "fit", all iterations.
        compiled: seconds of torch.compile in setup and fit.
    """

    images: MadeImages
    module: Refinement
    watch: Watch
    where: torch.device
    seconds: dict[str, float]
    compiled: float


def refined(simulated: Simulate, config: HomoRefine) -> Outcome:
    """Make the images, then refine them to convergence; lengths of the settings in Å."""
    box, pixel_size = simulated.box_size, simulated.pixel_size
    group, watch = symmetry_group(config.symmetry), Watch()
    max_epochs = config.max_iterations + config.extra_final_passes
    callbacks = [IterationBar(), watch, ModelCheckpoint(save_top_k=0)]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        times = [time.perf_counter()]
        _wake(torch.device(config.trainer.accelerator), box)
        trainer = make_trainer(Path(folder), config.trainer, max_epochs, callbacks)
        device, size = trainer.strategy.root_device, config.minibatch_size
        size = batch_size(box, device) if size == "auto" else size
        where = _home(simulated.n_particles, box, device)
        times.append(_now(device))

        images = MadeImages(ribosome_like(box, pixel_size, group, device), simulated)
        particles, _ = assign_half_sets(images.particles, True, config.seed)
        settings = global_em_settings(config, images, group, particles.half)
        batches = Batches(images, particles.half, size)
        batches.keep_on(where)
        for number in range(len(batches)):
            batches[number]
        times.append(_now(device))

        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        compiled = _compiled()
        initial = low_pass(images.volume, pixel_size, simulated.initial_resolution)
        first = box * pixel_size / settings.schedule.first_limit
        state, _ = initialise_state(particles, initial, batches, settings, first, device)
        times.append(_now(device))

        module = Refinement(state, settings, batches)
        fit(trainer, module, None)
        times.append(_now(device))
        compiled = _compiled() - compiled
    spent = (after - before for before, after in itertools.pairwise(times))
    seconds = dict(zip(("start", "simulate", "setup", "fit"), spent, strict=True))
    return Outcome(images, module, watch, where, seconds, compiled)


def _wake(device: torch.device, box: int) -> None:
    """What a process pays for once: context, libraries of transforms and products."""
    image = torch.zeros(2, box, box, device=device)
    torch.fft.rfft2(image)
    torch.bmm(image, image)
    _now(device)


def _home(n: int, box: int, device: torch.device) -> torch.device:
    """Where images wait: on the device if a refinement would keep them there, else on the host."""
    host = torch.device("cpu")
    if device.type == "cuda" and images_stay(n, box, free_memory(device)):
        return device
    need, there = 4 * n * box**2 / 1e9, memory_of(host) / 1e9
    if need > there / 2:
        raise InputError(
            f"the images take {need:.0f} GB, more than half of the memory ({there:.0f} GB): "
            "choose a smaller --n-particles or --box"
        )
    return host


def _now(device: torch.device) -> float:
    """The time at which the device has done what it was asked so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _compiled() -> float:
    """Seconds of torch.compile in this process so far."""
    dynamo = sys.modules.get("torch._dynamo.utils")  # loaded at the first use
    return float(dynamo.calculate_time_spent()["total_wall_time"]) if dynamo else 0.0
