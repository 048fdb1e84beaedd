"""Seconds per phase of an iteration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Adds up wall seconds by phase; each phase also has its name in a trace of ``torch.profiler``.

    On a CUDA device the times are those of events in its queue, looked at when they are asked for, so that the host never
    waits between two phases.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of a block that ends well."""
        with torch.profiler.record_function(name):
            if self._cuda:
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                yield
                end.record()
                self._events.append((name, begin, end))
            else:
                start = time.perf_counter()
                yield
                self._add(name, time.perf_counter() - start)

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Add the time of a block that ends well, with what the host waits for in it."""
        start = time.perf_counter()
        yield
        self._add(name, time.perf_counter() - start)

    @property
    def seconds(self) -> dict[str, float]:
        """Phase -> seconds so far."""
        for name, begin, end in self._events:
            end.synchronize()
            self._add(name, begin.elapsed_time(end) / 1000)
        self._events.clear()
        return self._seconds

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
