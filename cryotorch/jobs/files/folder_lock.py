"""Who writes into an output folder: one process at a time."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from cryotorch.errors import InputError

LOCK = ".lock"


class FolderLock:
    """``.lock`` in a folder: held by the operating system for as long as the process lives, so that none is ever stale.

    It holds process and host for people. On a file system without locks the file itself is the lock, and one of a process of this
    host that has ended does not count.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / LOCK
        self._lock: FileLock | None = None

    def acquire(self) -> None:
        """Take it, unless that is done.

        Raises:
            InputError: another process has it.
            OSError: the folder is none, or cannot be made or written.
        """
        if self._lock is not None:
            return
        lock = FileLock(self.path, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise self._in_use() from None
        self._lock = lock
        if not isinstance(lock, SoftFileLock):  # which writes the same itself
            self.path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")

    def refuse_held(self) -> None:
        """Raises InputError where another process has it, and leaves everything as it is; where there are no such locks nothing is known."""
        try:
            import fcntl  # not on Windows
        except ImportError:
            return
        with suppress(OSError), open(self.path, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._in_use() from None

    def release(self) -> None:
        """Let go of it and leave no file; nothing if it is not held."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if not isinstance(lock, SoftFileLock):
            with suppress(OSError):
                self.path.unlink()  # while it is held: who waits for it looks whether the file still has its name
        with suppress(OSError):
            lock.release()

    def _in_use(self) -> InputError:
        return InputError(
            f"out={self.path.parent} is in use by {self._holder()}: wait for its end, or name another folder"
        )

    def _holder(self) -> str:
        try:
            process, host, *_ = self.path.read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            return "another process"
        return f"process {process} on {host}"
