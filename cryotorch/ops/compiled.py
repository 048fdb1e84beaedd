"""How loops are compiled."""

# pyright: reportMissingParameterType=false
# numba finds the types of what it compiles

from __future__ import annotations

import logging
import time

from numba import njit
from numba.core import event

PACKAGE = "cryotorch"
ONCE = "compiling loops for this machine, once: some ten seconds, more on a busy one"
EVERY_TIME = "compiling loops, some ten seconds: no folder can be written to keep them in, NUMBA_CACHE_DIR names one"


def compiled(function, **how):
    """Compile at the first call, and keep the result on disk where there is a place for it; 1 / 0 is infinity, as in NumPy."""
    how = {"nogil": True, "fastmath": True, "error_model": "numpy", **how}
    try:
        return njit(**how, cache=True)(function)
    except (RuntimeError, OSError):  # neither the package's folder nor the user's can be written
        LISTENER.kept = False
        return njit(**how)(function)


def inlined(function):
    """Compile into every caller. A copy that callers share would be another's in the process that compiles than in those that find
    compiled code, and the last bits of a result with it."""
    return compiled(function, forceinline=True)


class Told(event.Listener):
    """Says before the first loop is compiled what the silence is about; numba is silent itself where it finds the result on disk.

    Attributes:
        seconds: of compiling in this process so far.
    """

    def __init__(self) -> None:
        self.kept, self.said = True, False
        self.seconds, self._deep, self._since = 0.0, 0, 0.0

    def on_start(self, event) -> None:
        """Of the package's own loops; one line for all of them."""
        if self._deep == 0:
            self._since = time.perf_counter()
        self._deep += 1
        module = getattr(event.data["dispatcher"].py_func, "__module__", None) or ""
        if self.said or not module.startswith(PACKAGE):
            return
        self.said = True
        logging.getLogger(PACKAGE).info(ONCE if self.kept else EVERY_TIME)

    def on_end(self, event) -> None:
        """Add up."""
        self._deep -= 1
        if self._deep == 0:
            self.seconds += time.perf_counter() - self._since


LISTENER = Told()
event.register("numba:compile", LISTENER)
