"""log.txt and the terminal: one line per iteration."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from tqdm import tqdm

from cryotorch.results import IterationResult

LOGGER = "cryotorch"


def median(values: Tensor) -> float:
    """The median of the finite values; NaN when there is none."""
    finite = values[values.isfinite()]
    return float(finite.median()) if finite.numel() else math.nan


def seconds_of(result: IterationResult) -> float:
    """Wall seconds of the iteration: as recorded in the history, else the sum of its phases."""
    last = result.history[-1] if result.history else {}
    return float(last.get("seconds", sum(result.seconds.values())))


def iteration_line(result: IterationResult) -> str:
    """``Iteration  7   7.84 Å   (no mask 9.60 Å)   rotation 1.24°   shift 0.41 Å   5.3 s``: medians of the changes."""
    parts = [f"Iteration {result.iteration:2d}", f"{result.resolution:6.2f} Å"]
    if "no_mask" in result.resolutions:
        parts.append(f"(no mask {result.resolutions['no_mask']:.2f} Å)")
    for name, values, unit in (
        ("rotation", result.rotation_change, "°"),
        ("shift", result.shift_change, " Å"),
    ):
        change = median(values)
        parts.append(f"{name} {change:5.2f}{unit}" if math.isfinite(change) else f"{name} new")
    parts.append(f"{seconds_of(result):6.1f} s")
    return "   ".join(parts)


class TerminalHandler(logging.Handler):
    """Prints above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))


@contextmanager
def run_log(path: Path | None, rank: int = 0, terminal: bool = True) -> Iterator[logging.Logger]:
    """The package's logger, writing to a file (appended to, with times) and to the terminal; silent on ranks > 0."""
    log = logging.getLogger(LOGGER)
    handlers: list[logging.Handler] = []
    if rank == 0 and path is not None:
        file = logging.FileHandler(path, mode="a", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
        handlers.append(file)
    if rank == 0 and terminal:
        handlers.append(TerminalHandler())
    # Without any handler Python prints warnings to stderr: once per rank.
    handlers = handlers or [logging.NullHandler()]
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield log
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
        log.setLevel(before[0])
        log.propagate = before[1]


class IterationLog(Callback):
    """Logs ``iteration_line`` and the messages of ``pl_module.result`` after each iteration, on rank 0."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        result = getattr(pl_module, "result", None)
        if not trainer.is_global_zero or result is None:
            return
        log = logging.getLogger(LOGGER)
        log.info(iteration_line(result))
        for message in result.messages:
            log.info("    %s", message)
