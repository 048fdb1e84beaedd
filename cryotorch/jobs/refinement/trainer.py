"""What every refinement job does around the algorithm: run folder, input, trainer, results."""

from __future__ import annotations

import logging
import os
import platform
import signal
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError, Stopped, out_of_memory
from cryotorch.jobs.config.parse import TrainerSettings, shown
from cryotorch.jobs.files.fingerprint import Fingerprint, unusable
from cryotorch.jobs.files.output_folder import told_if_full
from cryotorch.jobs.files.ranks import starter
from cryotorch.jobs.files.run_folder import CHECKPOINTS, RunFolder
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.inputs.device import require_cuda
from cryotorch.jobs.refinement.advice import JudgeClaims
from cryotorch.jobs.refinement.time_left import ForecastEnd
from cryotorch.refinement.em.module import Refinement
from cryotorch.refinement.em.out_of_memory import explain_out_of_memory
from cryotorch.refinement.runtime.checkpoints import AtomicCheckpoints
from cryotorch.refinement.runtime.distributed import EMStrategy, of_every_rank
from cryotorch.refinement.runtime.watch import Watch, end_with_the_lost
from cryotorch.report.log import IterationLog
from cryotorch.report.outputs import write_outputs
from cryotorch.report.progress import IterationBar
from cryotorch.report.sentences import line
from cryotorch.report.tensorboard import TensorBoardReport
from cryotorch.report.trace import Trace

log = logging.getLogger("cryotorch")


def world_size(trainer: TrainerSettings) -> int:
    """How many processes the trainer settings mean."""
    cuda = torch.cuda.is_available() and trainer.accelerator in ("auto", "gpu", "cuda")
    devices = trainer.devices
    if devices in ("auto", -1, "-1"):
        n = torch.cuda.device_count() if cuda else 1
    elif isinstance(devices, list):
        n = len(devices)
    else:
        n = int(devices) if str(devices).isdigit() else len(str(devices).split(","))
    return n * trainer.num_nodes


def make_trainer(
    out: Path | None,
    settings: TrainerSettings,
    max_epochs: int,
    callbacks: list[Callback],
    watch: Watch | None = None,
) -> L.Trainer:
    """A trainer whose epochs are EM iterations: one checkpoint each, no gradients, no sampler of its own; it writes into ``out``, None = nothing."""
    _quiet()
    accelerator = settings.accelerator
    if accelerator == "auto":  # not mps, which has no float64
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    require_cuda("trainer.accelerator", settings.accelerator)
    strategy = settings.strategy
    if world_size(settings) > 1 and strategy in ("auto", "ddp"):
        strategy = EMStrategy(watch)
    devices = 1 if settings.devices == "auto" and accelerator == "cpu" else settings.devices
    files = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    if out is not None:
        logger = TensorBoardLogger(out, name="tensorboard", version="", default_hp_metric=False)
        files = dict(logger=logger, default_root_dir=out)
    if settings.precision not in ("32-true", "32"):
        raise InputError(
            f"trainer.precision={settings.precision} cannot be used: the algorithm needs 32-true"
        )
    plugins: list = [AtomicCheckpoints()]
    if not starter() and "SLURM_NTASKS" in os.environ:  # Lightning would wait for srun's
        plugins.append(LightningEnvironment())
    try:
        return L.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=settings.num_nodes,
            precision=settings.precision,
            strategy=strategy,
            max_epochs=max_epochs,
            callbacks=callbacks,
            plugins=plugins,
            **files,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,  # iterations differ in the batches that they take
            num_sanity_val_steps=0,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        written = " ".join(
            f"trainer.{name}={shown(value)}" for name, value in asdict(settings).items()
        )
        reason = str(error).split(". ")[0].rstrip(".")
        raise InputError(
            f"there is no trainer with {written} ({reason}): correct that, or use trainer=auto"
        ) from None


def _quiet() -> None:
    """Silence what Lightning says of ways to use it that are meant here."""
    for noise in (
        ".*treespec, LeafSpec.*",
        ".*does not have many workers.*",
        ".*log_every_n_steps.*",
        ".*isinstance.treespec.*",
        ".*Checkpoint directory.*not empty.*",
        ".*dirpath has changed.*",  # another spelling of it
        ".*srun.*is not used.*",
        ".*GPU available but not used.*",  # trainer=cpu says so
    ):
        warnings.filterwarnings("ignore", noise)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _cause(end: SystemExit) -> KeyboardInterrupt:
    """What made Lightning exit."""
    return end.__context__ if isinstance(end.__context__, KeyboardInterrupt) else Stopped()


def fit(
    trainer: L.Trainer, module: Refinement, checkpoint: Path | None, watch: Watch | None = None
) -> None:
    """Iterate. Ctrl-C stays a KeyboardInterrupt; Lightning would turn it into exit code 1 and a message of its own.

    Raises:
        InputError: an image cannot be read, a result not be written, or a device has too little memory.
    """
    handler = signal.getsignal(signal.SIGINT)
    # Lightning's would talk to other ranks in the middle of what they are doing, or ask a cluster to start the job again.
    trainer._signal_connector.register_signal_handlers = lambda: None
    try:
        with (
            told_if_full(Path(trainer.default_root_dir)),
            explain_out_of_memory(module.settings.box, module.state),
        ):
            trainer.fit(module, ckpt_path=checkpoint)
    except SystemExit as end:
        if trainer.interrupted:
            raise _cause(end) from None
        raise
    except Exception as error:
        if isinstance(error, InputError | OSError) or out_of_memory(error):
            raise
        if checkpoint is not None and module.expectation is None and module.result is None:
            raise unusable(checkpoint, type(error).__name__) from error
        if not isinstance(error, RuntimeError):
            raise
        if trainer.world_size > 1:
            end_with_the_lost(error, watch)
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)
    if module.result is None:
        raise unusable(checkpoint, "no iteration was begun")


class IterationCheckpoint(ModelCheckpoint):
    """Checkpoints that count iterations from 1, as everything else does; epochs count from 0."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(
            dirpath=folder.path / CHECKPOINTS,
            filename="iteration_{epoch:03d}",
            auto_insert_metric_name=False,
            save_top_k=-1,  # older ones are removed by the folder
            enable_version_counter=False,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
        )
        self.folder = folder

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Refinement) -> None:
        """Save, then tell the folder, on rank 0."""
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            self.folder.iteration_done(pl_module.state.iteration)

    def format_checkpoint_name(self, metrics: dict, *args, **kwargs) -> str:
        """The name with the number of iterations done."""
        return super().format_checkpoint_name(
            {**metrics, "epoch": metrics["epoch"] + 1}, *args, **kwargs
        )


@dataclass
class SameRun(Callback):
    """Refuses to add up sums of different runs, where processes of a sweep that others started have lost step."""

    out: Path

    def on_fit_start(self, trainer: L.Trainer, pl_module: Refinement) -> None:
        """All ranks; the first rank's run is the one that is meant."""
        every = of_every_rank(str(self.out), trainer.world_size)
        if len(set(every)) > 1:
            others = ", ".join(dict.fromkeys(every))
            raise InputError(
                f"the processes of this run are in different ones (out={others}): start every run of the sweep by itself"
            )


@dataclass
class WriteResults(Callback):
    """Maps, curves and the summary after every iteration, the particles after the last one."""

    out: Path
    source: ParticleFile
    extras: dict
    started: float  # of the job, on time.perf_counter
    formats: list[str]
    reported: int = 0  # damaged images

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Refinement) -> None:
        """Rank 0 only; files are replaced whole."""
        result = pl_module.result
        damaged = self._damaged(trainer, pl_module)
        if trainer.is_global_zero:
            extras = {
                **self.extras,
                damage.ENTRY: damaged,
                "wall_seconds": round(time.perf_counter() - self.started, 3),
            }
            source = self.source if result.final else None
            write_outputs(self.out, result, source, extras, self.formats)

    def _damaged(self, trainer: L.Trainer, pl_module: Refinement) -> dict[str, str]:
        """Damaged images, those that other ranks have read too; told when there are more of them, and at the end."""
        result, images = pl_module.result, pl_module.batches.images
        found = damage.damaged_images(images, result.loud)
        every = of_every_rank(found, trainer.world_size)
        found = {name: why for part in every for name, why in part.items()}
        if len(found) > self.reported or (found and result.final):
            log.warning(line(damage.finding(found, len(self.source.particles))))
        self.reported = max(self.reported, len(found))
        return found


def callbacks(
    folder: RunFolder,
    source: ParticleFile,
    extras: dict,
    belongs: Fingerprint,
    started: float,
    formats: list[str],
    profile: bool,
    judge: JudgeClaims,
) -> list[Callback]:
    """Judge, forecast, log, bar, TensorBoard, results and, last, the checkpoint that says an iteration is done; a dry run ends with the forecast."""
    out = folder.path
    if folder.dry_run:
        return [judge, ForecastEnd(ends=True)]
    return [
        belongs,
        SameRun(out),
        *([Trace(out / "profile")] if profile else []),
        judge,
        ForecastEnd(),
        IterationBar(),  # first, as it gives the line to the log
        IterationLog(),
        TensorBoardReport(out / "plots"),
        WriteResults(out, source, extras, started, formats),
        IterationCheckpoint(folder),
    ]


def machine(trainer: L.Trainer) -> str:
    """One phrase on what the job runs on."""
    kind = trainer.strategy.root_device.type
    name = platform.processor() or platform.machine()
    if kind == "cuda":
        name = torch.cuda.get_device_name(trainer.strategy.root_device)
    ranks = f", {trainer.world_size} processes" if trainer.world_size > 1 else ""
    return f"{kind} ({name}), {torch.get_num_threads()} threads{ranks}"
