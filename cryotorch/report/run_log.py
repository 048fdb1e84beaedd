"""The terminal and log.txt of a run."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from logging.handlers import MemoryHandler
from pathlib import Path

from tqdm import tqdm

from cryotorch.errors import InputError

LOGGER = "cryotorch"


class TerminalHandler(logging.Handler):
    """Prints above a progress bar instead of through it; what cannot be printed does not stop a run."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record))
        except BrokenPipeError:
            raise
        except OSError:  # it goes to a file on a full disk
            pass


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace
    ) -> None:
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
