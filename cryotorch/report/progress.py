"""A bar over the batches of an iteration with particles per second and the time left, quiet where nobody watches."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from cryotorch.results import told

_FORMAT = (
    "{desc} {percentage:3.0f}% |{bar:30}| {n_fmt}/{total_fmt} batches, {remaining} left{postfix}"
)


class IterationBar(ProgressBar):
    """Takes the place of Lightning's bar. Shown on rank 0 and only on a terminal.

    Args:
        stream: where to draw; None = stderr.
        show: None = when the stream is a terminal.
    """

    def __init__(self, stream: TextIO | None = None, show: bool | None = None) -> None:
        super().__init__()
        self.stream = stream or sys.stderr
        self._show = self.stream.isatty() if show is None else show
        self._bar: tqdm | None = None
        self._since, self._seen, self._reached = 0.0, 0, ""

    def enable(self) -> None:
        self._show = True

    def disable(self) -> None:
        self._show = False

    def print(self, *args: object, sep: str = " ", **kwargs: object) -> None:
        """Lightning's own messages, above the bar."""
        tqdm.write(sep.join(str(a) for a in args), file=self.stream)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()
        if not self._show or not trainer.is_global_zero:
            return
        most = trainer.max_epochs or -1
        text = f"Iteration {trainer.current_epoch + 1}"
        self._bar = tqdm(
            total=int(self.total_train_batches),
            desc=f"{text} of at most {most}" if most > 0 else text,
            file=self.stream,
            bar_format=_FORMAT,
            leave=False,
            dynamic_ncols=True,
        )
        result = getattr(pl_module, "result", None)
        self._reached = "" if result is None else f"{told(result.resolution)} so far"
        self._since, self._seen = time.perf_counter(), 0
        self._bar.set_postfix_str(self._reached)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        if self._bar is not None:
            self._seen += trainer.world_size * len(getattr(batch, "index", ()))
            rate = self._seen / max(time.perf_counter() - self._since, 1e-6)
            told_rate = [f"{rate:,.0f} particles/s"] if self._seen else []
            postfix = ", ".join([*told_rate, *filter(None, [self._reached])])
            self._bar.set_postfix_str(postfix, refresh=False)
            self._bar.update(1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
