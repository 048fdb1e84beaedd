"""How the process of a command manages its memory."""

from __future__ import annotations

import atexit
import ctypes
import gc
from contextlib import suppress


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for the next array.

    By default it hands every large array back to the system, which must clear the pages of the next one: at a box of 256 that
    is measured to take half of the time of a job on maps.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h
    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)


def return_freed_memory() -> None:
    """Give back once what ``keep_freed_memory`` kept: before arrays so large that none of them fits where smaller ones were."""
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def collect_rarely() -> None:
    """Look for cycles of dead objects rarely, and not at the end.

    The imports make 400,000 objects that stay. Looking through them again and again is measured to take a fifth of the imports' time,
    and a second when the process ends.
    """
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
