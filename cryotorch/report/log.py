"""log.txt and the terminal: one line per iteration."""

from __future__ import annotations

import logging
import math
import sys
import traceback
from contextlib import suppress
from logging.handlers import MemoryHandler
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from tqdm import tqdm

from cryotorch.errors import InputError
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


class QuietFileHandler(logging.FileHandler):
    """A full disk does not stop a run for the sake of its log."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class RunLog:
    """The package's logger within a run: to the terminal at once, to a file from ``open`` on, silent on ranks > 0.

    What is said before ``open`` waits, and goes to the file too; without it nothing is written.
    """

    def __init__(self, rank: int = 0, terminal: bool = True) -> None:
        self.logger = logging.getLogger(LOGGER)
        self._waiting: MemoryHandler | None = None
        # Without any handler Python prints warnings to stderr: once per rank.
        self._handlers: list[logging.Handler] = [logging.NullHandler()]
        if rank == 0:
            # Nothing leaves it by itself: neither many lines nor grave ones.
            self._waiting = MemoryHandler(sys.maxsize, logging.CRITICAL + 1, flushOnClose=False)
            self._handlers = [self._waiting]
            if terminal:
                self._handlers.append(TerminalHandler())

    def open(self, path: Path) -> None:
        """Append to a file, with times."""
        if self._waiting is None:
            return
        file = QuietFileHandler(path, mode="a", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
        for record in self._waiting.buffer:
            file.handle(record)
        self._exchange(self._waiting, file)
        self._waiting = None

    def info(self, message: str, *values: object) -> None:
        """A line in file and terminal."""
        self.logger.info(message, *values)

    def _exchange(self, old: logging.Handler, new: logging.Handler) -> None:
        self.logger.removeHandler(old)
        self.logger.addHandler(new)
        self._handlers[self._handlers.index(old)] = new

    def __enter__(self) -> RunLog:
        self._before = self.logger.level, self.logger.propagate
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        for handler in self._handlers:
            self.logger.addHandler(handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace) -> None:
        for handler in self._handlers:
            if error is not None and isinstance(handler, logging.FileHandler):
                handler.handle(_last_words(error))
            self.logger.removeHandler(handler)
            handler.close()
        self.logger.setLevel(self._before[0])
        self.logger.propagate = self._before[1]


def _last_words(error: BaseException) -> logging.LogRecord:
    """Why a run ended, for its file; the terminal hears it from the command line."""
    if isinstance(error, KeyboardInterrupt):
        text = "interrupted"
    elif isinstance(error, InputError):
        text = f"error: {error}"
    else:
        text = "".join(traceback.format_exception(error)).rstrip()
    fields = {"name": LOGGER, "levelno": logging.ERROR, "levelname": "ERROR", "msg": text}
    return logging.makeLogRecord(fields)


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
