"""How loops are compiled."""

from __future__ import annotations

from numba import njit


def compiled(function, **how):
    """Compile at the first call, and keep the result on disk where there is a place for it; 1 / 0 is infinity, as in NumPy."""
    how = {"nogil": True, "fastmath": True, "error_model": "numpy", **how}
    try:
        return njit(**how, cache=True)(function)
    except (RuntimeError, OSError):  # neither the package's folder nor the user's can be written
        return njit(**how)(function)


def inlined(function):
    """Compile into every caller. A copy that callers share would be another's in the process that compiles than in those that find
    compiled code, and the last bits of a result with it."""
    return compiled(function, forceinline=True)
