"""A copy of the repository, and tests on it in processes that need not load torch again."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COPIED = ("cryotorch", "configs", "tests", "scripts", "pyproject.toml", "README.md")
MEMORY = 16 << 30  # bytes of address space: a fault may ask for any size of array
CAUGHT, SURVIVED, HUNG, CRASHED = "caught", "survived", "hung", "crashed"


def load() -> None:
    """What all tests import, once, so that trials are forked with it; nothing of cryotorch."""
    import numba  # noqa: F401
    import pytest  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import torch  # noqa: F401


class Copy:
    """A copy of the repository in an empty folder, which trials change."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.folder, self._compiled = folder, folder / "compiled"
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        for name in COPIED:
            source, target = repository / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignore)
            else:
                shutil.copy2(source, target)

    @contextmanager
    def changed(self, module: str, text: str) -> Iterator[Path]:
        """A module of the copy with another text; yields the folder for its compiled code."""
        path = self.folder / module
        before, stat = path.read_bytes(), path.stat()
        # code compiled from another text must not meet the unchanged one
        place = self.folder / "compiled_changed" if b"ops.compiled" in before else self._compiled
        path.write_text(text, encoding="utf-8")
        try:
            yield place
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            shutil.rmtree(self.folder / "compiled_changed", ignore_errors=True)

    def unchanged(self, tests: tuple[str, ...], seconds: float) -> str:
        return self.run(tests, seconds, self._compiled)

    def run(self, tests: tuple[str, ...], seconds: float, compiled: Path) -> str:
        """CAUGHT, SURVIVED, HUNG (longer than some seconds) or CRASHED (ended by a signal)."""
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            os._exit(self._test(tests, compiled))
        end = time.monotonic() + seconds
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return HUNG
            time.sleep(0.01)
        if os.WIFSIGNALED(status):
            return CRASHED
        return CAUGHT if os.waitstatus_to_exitcode(status) else SURVIVED

    def _test(self, tests: tuple[str, ...], compiled: Path) -> int:
        """In the child: pytest in the copy, what it prints goes to a file there."""
        import numba
        import pytest

        os.setsid()
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))
        os.environ.update(PYTHONPATH=str(self.folder), NUMBA_CACHE_DIR=str(compiled))
        numba.config.CACHE_DIR = str(compiled)
        # an edit may leave size and second of a file as they were: no compiled module would notice
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--rootdir=."]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        try:
            return int(pytest.main([*options, *tests]))
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
