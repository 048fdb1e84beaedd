"""Repeated timings, and what they were taken on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Timing:
    """Wall seconds of a repeated call."""

    best: float
    median: float
    repeats: int

    def rates(self, unit: str, amount: float) -> dict[str, float]:
        """``amount`` per second as two columns of a table: best and median."""
        return {f"{unit}/s": amount / self.best, f"{unit}/s median": amount / self.median}


def measure(
    call: Callable[[], object],
    device: str,
    seconds: float = 0.5,
    before: Callable[[], object] | None = None,
) -> Timing:
    """Call once to warm up, then at least three times and until ``seconds`` are spent.

    ``before`` runs ahead of each call, untimed. On a CUDA device each call is waited for.
    """
    return race([call], device, seconds, before)[0]


def race(
    calls: Sequence[Callable[[], object]],
    device: str,
    seconds: float = 0.5,
    before: Callable[[], object] | None = None,
) -> list[Timing]:
    """``measure`` several calls in turns: what else the machine does slows all of them alike."""
    spent: list[list[float]] = [[] for _ in calls]
    while len(spent[0]) < 4 or sum(map(sum, spent)) < seconds * len(calls):
        for call, mine in zip(calls, spent, strict=True):
            if before is not None:
                before()
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            mine.append(time.perf_counter() - start)
    return [Timing(min(mine[1:]), median(mine[1:]), len(mine) - 1) for mine in spent]


def _wait(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def machine(load: float) -> dict[str, str | int | float]:
    """Processor, devices, versions, threads; ``load`` is the system's load average before."""
    import torch

    import cryotorch
    from cryotorch.ops.pose.precision import coarse_dtype
    from cryotorch.report.summary import git_commit

    found: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "load average before": round(load, 2),
        "threads": torch.get_num_threads(),
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "not set"),
        "coarse product, cpu": str(coarse_dtype("cpu")).removeprefix("torch."),
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_device_name(0)
        found["coarse product, cuda"] = str(coarse_dtype("cuda")).removeprefix("torch.")
    found |= {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cryotorch": f"{cryotorch.__version__}, {git_commit() or 'no checkout'}",
    }
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
