"""Where the time of an iteration goes: a trace for Perfetto, Chrome and TensorBoard."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile

from cryotorch.data.files import replace_file
from cryotorch.report.run_log import LOGGER

RECORDED_BATCHES = 20  # recorded at the start of the iteration, to bound the file; and the last one, which holds the M-step
TABLE_ROWS = 40  # of the table


class Trace(Callback):
    """Records the second iteration of this process, or the only one, on rank 0, and says where it is.

    ``iteration_<i>.pt.trace.json.gz`` is the course of the operations, with the phases as their names, and
    ``iteration_<i>.txt`` the operations by the time that they took themselves. Of a long iteration they hold the start, and
    ``iteration_<i>_end`` the last batch with the M-step.

    Args:
        folder: for the files, made when they are.
        batches: recorded at the start of the iteration.
    """

    def __init__(self, folder: Path, batches: int = RECORDED_BATCHES) -> None:
        self.folder, self.batches = Path(folder), batches
        self._epoch = -1
        self._profile: profile | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the iteration."""
        first = trainer.current_epoch
        self._epoch = min(first + 1, (trainer.max_epochs or first + 2) - 1)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.current_epoch == self._epoch:
            self._start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch, batch_idx: int
    ) -> None:
        last = trainer.num_training_batches - 1
        if self._profile is not None and batch_idx == self.batches < last:
            self._finish(f"iteration_{self._epoch + 1:03d}")
        if trainer.is_global_zero and trainer.current_epoch == self._epoch:
            if batch_idx == last > self.batches:
                self._start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._profile is None:
            return
        whole = trainer.num_training_batches <= self.batches + 1
        name = f"iteration_{self._epoch + 1:03d}"
        self._finish(name if whole else f"{name}_end")
        logging.getLogger(LOGGER).info(
            "Trace of iteration %d%s in %s: open the .json.gz at https://ui.perfetto.dev, or use tensorboard --logdir %s with "
            "torch-tb-profiler",
            self._epoch + 1,
            "" if whole else f" (its first {self.batches} batches, and the last with the M-step)",
            *(self.folder, self.folder),
        )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self._profile is not None:
            self._profile.stop()
            self._profile = None

    def _start(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it prints lines of its own otherwise
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)
        self._profile.start()

    def _finish(self, name: str) -> None:
        done, self._profile = self._profile, None
        done.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        done.export_chrome_trace(str(self.folder / f"{name}.pt.trace.json.gz"))
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = done.key_averages().table(sort_by=by, row_limit=TABLE_ROWS)
        with replace_file(self.folder / f"{name}.txt") as file:
            file.write(table.encode())
