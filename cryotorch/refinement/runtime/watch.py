"""Processes of one run that end together: a rank that dies or is stopped takes the others along, and one of them says why.

A collective operation of torch.distributed waits for a lost rank, for half an hour or in vain, and signals are not handled while it
does. So a thread of each rank looks after the processes that its own one started, or was started by, and after signals.
"""

from __future__ import annotations

import _thread
import atexit
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from cryotorch.errors import TOLD, InputError, Stopped, first_to_tell

PARENT = "CRYOTORCH_RANK_0"  # its process, in the environment of those that it starts
POLL_SECONDS = 0.5  # between looks
GRACE_SECONDS = 8.0  # that the main thread has to end by itself
EXIT_CODES: dict[int, int] = {
    signal.SIGINT: 130,
    signal.SIGTERM: 143,
}  # 128 + the signal, as shells have it

# What collective operations say of a rank that is gone.
LOST_RANK_SIGNS = (
    "Connection closed",
    "Connection reset",
    "Broken pipe",
    "gloo",
    "NCCL",
    "Timed out",
    "timeout",
)


class Watch(threading.Thread):
    """Ends this process when one that belongs to it has ended before its time, or when a signal finds the main thread waiting.

    Attributes:
        rank: 0 also for every process that torchrun or srun has started, and ends with the others.
        children: processes of the other ranks, on rank 0.
        resume: how to go on with the run, for the sentence.
        code: exit code of this process once another has ended, else 0.
        missed: exit code for a signal that came while Python was finalising something, where what it raises goes nowhere; else 0.
    """

    def __init__(self, rank: int, resume: str) -> None:
        super().__init__(daemon=True, name="watch")
        self.rank, self.resume, self.code, self.missed = rank, resume, 0, 0
        self.children: list[Popen] = []
        self._parent = int(os.environ[PARENT]) if rank and PARENT in os.environ else 0
        self._done, self._signals = threading.Event(), os.pipe()
        self._before, self._folder = -1, ""
        self._hook = sys.unraisablehook

    def __enter__(self) -> Watch:
        if self.rank == 0:
            os.environ[PARENT] = str(os.getpid())
            self._folder = tempfile.mkdtemp(prefix="cryotorch-")
            os.environ[TOLD] = str(Path(self._folder) / "told")
        if threading.current_thread() is threading.main_thread():
            for end in self._signals:
                os.set_blocking(end, False)
            self._before = signal.set_wakeup_fd(self._signals[1], warn_on_full_buffer=False)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self.start()
        return self

    def __exit__(self, kind: type | None, *others: object) -> None:
        if kind is None or self.rank == 0:  # else until this process is gone
            self._done.set()
            self.join()
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._before)
        sys.unraisablehook = self._hook
        if self.rank == 0:
            if kind is not None:
                self._kill()
            if kind is None or not self.children:
                del os.environ[PARENT], os.environ[TOLD]
                self._forget()
            else:  # who has told is asked until the end
                atexit.register(self._forget)

    def run(self) -> None:
        """Look, until all is over."""
        while not self._done.wait(POLL_SECONDS):
            if self._parent and os.getppid() != self._parent:
                self._end("the process of rank 0", 1)
                return
            for rank, child in enumerate(self.children, 1):
                if child.poll():
                    name = f"the process of rank {rank}"
                    if child.returncode < 0:
                        name += f" was killed ({_signal_name(-child.returncode)}, too little memory perhaps)"
                    self._end(name, max(child.returncode, 1))
                    return
            with suppress(OSError, ValueError):  # nothing to read
                for number in os.read(self._signals[0], 16):
                    if number in EXIT_CODES:
                        self._leave_in_time(EXIT_CODES[number], "interrupted")
                        return

    def wait(self) -> None:
        """For the main thread, when a collective operation has failed: until the thread knows why, and ends it."""
        if self.children or self._parent:
            time.sleep(GRACE_SECONDS)

    def _unraisable(self, what: Any) -> None:
        if isinstance(what.exc_value, KeyboardInterrupt):
            self.missed = getattr(what.exc_value, "code", EXIT_CODES[signal.SIGINT])
        else:
            self._hook(what)

    def _end(self, what: str, code: int) -> None:
        what += "" if "killed" in what else " ended"
        self.code = code
        _tell(f"error: {what}, and the others end with it: {self.resume}")
        _thread.interrupt_main(signal.SIGTERM)
        self._leave_in_time(code, "")

    def _leave_in_time(self, code: int, word: str) -> None:
        if self._done.wait(GRACE_SECONDS):
            return
        if word:
            _tell(f"{word}: {self.resume}")
        self._kill()
        self._forget()
        sys.stdout.flush()
        os._exit(code)

    def _kill(self) -> None:
        for child in self.children:
            with suppress(OSError):
                child.kill()

    def _forget(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def end_with_the_lost(error: RuntimeError, watch: Watch | None) -> None:
    """Nothing, unless an error says that another process of the run is gone.

    Raises:
        Stopped: a signal came while this one waited for it.
        InputError: it was lost.
    """
    if not any(sign in str(error) for sign in LOST_RANK_SIGNS):
        return
    if watch is not None:
        if not watch.missed:
            watch.wait()
        if watch.missed:
            raise Stopped(code=watch.missed) from None
    raise InputError(
        "another process of this run ended, or cannot be reached any more: see what it says, then add resume=true"
    ) from None


class Launcher(_SubprocessScriptLauncher):
    """Starts the other ranks and has them watched; Lightning's own observer would kill this process without a word."""

    def __init__(self, watch: Watch, *args: Any) -> None:
        super().__init__(*args)
        self.watch = watch

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start them, unless a cluster does, then call ``function``; raises InputError where the processes are not those of the trainer."""
        environment = self.cluster_environment
        try:
            environment.validate_settings(self.num_processes, self.num_nodes)
        except ValueError as error:
            raise InputError(
                f"the processes that were started are not those of trainer.devices and trainer.num_nodes ({error}): make them agree"
            ) from None
        if not environment.creates_processes_externally:
            self._call_children_scripts()
            self.watch.children = self.procs
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


def _tell(sentence: str) -> None:
    if first_to_tell():
        print(sentence, file=sys.stderr, flush=True)


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
