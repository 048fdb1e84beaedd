"""A folder of files that can be made again, shared by jobs: who makes one, who is reading it, which goes when space is short."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryotorch.errors import InputError

MIN_FREE_BYTES = 10**9  # bytes of the disk, or a twentieth of it, that stay free for others
CACHE_PREFIX = "particles_"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheFolder:
    """Entries ``particles_*``, one file each, in a folder that is made if missing.

    A file is locked by those who use it, and the system frees the locks of a process that dies: readers share the lock of an
    entry, its maker holds that of ``.<entry>.partial``, which becomes the entry when it is whole. What nobody has locked may be
    removed. An entry's time of modification is that of its last opening.

    Attributes:
        path: on a local disk.
        limit: bytes that all entries together may take; None = what the disk has.
    """

    path: Path
    limit: float | None = None

    def open(
        self,
        name: str,
        size: int,
        write: Callable[[int], None],
        damaged: int | None = None,
    ) -> int:
        """A file handle for reading an entry, which is kept from removal while the handle is open.

        Args:
            size: of the entry in bytes; one of another size is made again.
            write: fills a file, given by its handle; called if there is no such entry.
            damaged: handle of an entry that is not to be returned again.

        Raises:
            InputError: the folder cannot be used, or is too small.
        """
        entry = self.path / name
        with self._told():
            self.path.mkdir(parents=True, exist_ok=True)
            while True:
                handle = _opened(entry, size, damaged)
                if handle is None:
                    handle = self._make(entry, size, write, damaged)
                if handle is not None:
                    return handle

    def _make(
        self, entry: Path, size: int, write: Callable[[int], None], damaged: int | None
    ) -> int | None:
        """The entry, new; None if another job has just made it."""
        partial = entry.with_name(f".{entry.name}.partial")
        handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock_now(handle):
                logger.info("Waiting for another job to finish the cache %s.", entry)
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is(handle, partial):
                os.close(handle)
                return None
            made = _opened(entry, size, damaged)
            if made is not None:
                partial.unlink()
                os.close(handle)
                return made
            try:
                self._reserve(entry, handle, size)
                write(handle)
                os.replace(partial, entry)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            fcntl.flock(handle, fcntl.LOCK_SH)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _reserve(self, entry: Path, handle: int, size: int) -> None:
        """Take the room on the disk, one job at a time, so that two never count on the same."""
        with open(self.path / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.ftruncate(handle, 0)  # by a job that was killed
            entry.unlink(missing_ok=True)
            self._make_room(size, entry)
            if hasattr(os, "posix_fallocate"):
                try:
                    os.posix_fallocate(handle, 0, size)
                except OSError as error:
                    if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                        raise

    def _make_room(self, size: int, entry: Path) -> None:
        disk = shutil.disk_usage(self.path)
        reserve = min(MIN_FREE_BYTES, disk.total // 20)
        found = self._by_age()
        held = sum(bytes_ for _, bytes_, _ in found)

        def lacking() -> str | None:
            if self.limit is not None and held + size > self.limit:
                used = f", of which {held / 1e9:.3g} GB are in use" if held else ""
                return f"may hold {self.limit / 1e9:.3g} GB (cache_limit){used}"
            free = shutil.disk_usage(self.path).free
            if free < size + reserve:
                return f"has {free / 1e9:.3g} GB free, of which {reserve / 1e9:.2g} GB stay so"
            return None

        enough = self.limit is None or size <= self.limit  # else nothing is gained by removing
        for _, bytes_, path in found if enough else ():
            if lacking() is None:
                return
            if _remove(path):
                logger.info("Removed %s, the cache that was not used for longest.", path)
                held -= bytes_
        reason = lacking()
        if reason is not None:
            raise InputError(
                f"cache_dir {self.path} {reason}, and {entry.name} needs {size / 1e9:.3g} GB: choose another or none."
            )

    def _by_age(self) -> list[tuple[int, int, Path]]:
        """Last use, bytes and path of all entries and of those being made, oldest first."""
        found = []
        for pattern in (f"{CACHE_PREFIX}*", f".{CACHE_PREFIX}*.partial"):
            for path in self.path.glob(pattern):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    found.append((status.st_mtime_ns, status.st_size, path))
        return sorted(found)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cache_dir {self.path} cannot be used ({error.strerror or error}): choose a folder on a local disk."
            ) from None


def _opened(entry: Path, size: int, damaged: int | None) -> int | None:
    """A handle of the entry with a shared lock; None if there is none that is fit for use."""
    while True:
        try:
            handle = os.open(entry, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            status = os.fstat(handle)
            wanted = status.st_size == size
            if damaged is not None and os.path.samestat(status, os.fstat(damaged)):
                wanted = False
            if wanted and _is(handle, entry):
                with suppress(OSError):  # a cache of another user
                    os.utime(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if not wanted:
            return None


def _is(handle: int, path: Path) -> bool:
    """Whether a file still has its name: it may have been removed or renamed while its lock was waited for."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _lock_now(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> bool:
    """Remove a file unless somebody uses it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        if not _lock_now(handle):
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)
