"""One refinement on one and on several processes, beside what a model makes of the first.

An iteration takes

    T(N) = E ceil(B / N) / B + H halves(N) + V(N) / rate + M left(N):

E the searches and insertions of all B batches, dealt out whole; H the templates of a half set,
of which a process needs one or, where its share lies across the border, both; V the bytes that
pass the busiest process, see ``Moved``; M the M-step, of which left(N) is the longest way through
its pieces, as ``scripts/benchmark m_step`` measures it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.refinement import Data, refine

E_STEP = ("transform", "coarse", "polish", "bound", "insert")
M_STEP = ("solve", "fsc")
PREDICTED = (8, 64)
LEFT = {1: 1.0, 2: 0.64, 4: 0.60}  # of the M-step, on so many processes or more
EXCHANGED = 12  # maps that an M-step gives from one process to all


@dataclass(frozen=True)
class Moved:
    """Bytes that an iteration gives from process to process.

    Attributes:
        grids: insertion grids of both half sets; rows: poses and noise; maps: what an M-step makes.
    """

    grids: float
    rows: float
    maps: float

    def by(self, processes: int) -> float:
        """Those that pass the busiest process.

        A grid goes up a tree of the processes that have images of its half set, and once more to
        the other half set's; poses go round a ring (Patarasuk & Yuan 2009,
        doi:10.1016/j.jpdc.2008.09.002); every map goes through each process once.
        """
        if processes == 1:
            return 0.0
        grid, levels = self.grids / 2, math.ceil(math.log2(math.ceil(processes / 2)))
        return grid * (levels + 1) + 2 * (processes - 1) / processes * self.rows + self.maps


@dataclass(frozen=True)
class Parts:
    """Seconds of an iteration on one process, by how they scale.

    Attributes:
        batches: of each half set.
        moved: bytes.
    """

    e_step: float
    templates: float
    m_step: float
    batches: tuple[int, int]
    moved: Moved

    def seconds(self, processes: int, rate: float = math.inf) -> float:
        """T(N); ``rate`` in bytes/s, infinity = what is moved takes no time."""
        total = sum(self.batches)
        each = math.ceil(total / processes)
        e_step = self.e_step * each / total + self._templates(processes, each)
        m_step = self.m_step * LEFT[max(n for n in LEFT if n <= processes)]
        return e_step + self.moved.by(processes) / rate + m_step

    def _templates(self, processes: int, each: int) -> float:
        """Of the process with most half sets."""
        border = self.batches[0] % each != 0 if self.batches[0] and self.batches[1] else False
        return self.templates / 2 * (2 if processes == 1 or border else 1)


def moved(box: int, particles: int, groups: int = 1) -> Moved:
    """Of two insertion grids, poses and noise, and maps."""
    side, columns = box + 3, box // 2 + 2
    rows = 4 * 16 * particles + 2 * 8 * groups * (box // 2 + 2)
    return Moved(2 * 3 * 4 * side * side * columns, rows, 4 * EXCHANGED * box**3)


def run(
    data: Data, folder: Path, changes: Sequence[str], processes: Sequence[int], device: str
) -> dict[str, list[dict[str, object]]]:
    """Refine on each number of processes; tables of speed and of the model.

    Seconds are medians over the iterations without the first.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process its core
    accelerator = "gpu" if device == "cuda" else "cpu"
    outs = {}
    for n in sorted({1, *processes}):
        outs[n] = folder / f"processes_{n}"
        many = [f"trainer.accelerator={accelerator}", f"trainer.devices={n}", *changes]
        refine(data, outs[n], ["trainer=ddp" if n > 1 else "trainer=auto", *many])
    summaries = {n: json.loads((out / "summary.json").read_text()) for n, out in outs.items()}
    parts = _parts(summaries[1])
    return {
        "Processes": [_row(n, outs, summaries) for n in outs],
        "Model": [_model(n, parts, summaries.get(n)) for n in sorted({*outs, *PREDICTED})],
        "Parts of an iteration on one process": [
            {"part": "E-step, s", "value": parts.e_step},
            {"part": "templates of both half sets, s", "value": parts.templates},
            {"part": "M-step, s", "value": parts.m_step},
            {"part": "batches", "value": sum(parts.batches)},
            {"part": "bytes moved by two processes", "value": parts.moved.by(2)},
        ],
    }


def _per_iteration(summary: dict, names: Sequence[str] | None = None) -> float:
    """Median seconds of some phases, or of all."""
    rows = summary["history"][1:] or summary["history"]
    keys = ["seconds"] if names is None else [f"seconds_{name}" for name in names]
    return median(sum(row.get(key, 0.0) for key in keys) for row in rows)


def _parts(summary: dict) -> Parts:
    return Parts(
        e_step=_per_iteration(summary, E_STEP),
        templates=_per_iteration(summary, ["templates"]),
        m_step=_per_iteration(summary, M_STEP),
        batches=tuple(math.ceil(n / summary["minibatch_size"]) for n in summary["half_sets"]),
        moved=moved(summary["box"], summary["particles"]),
    )


def _row(n: int, outs: dict[int, Path], summaries: dict[int, dict]) -> dict[str, object]:
    first, this = _per_iteration(summaries[1]), _per_iteration(summaries[n])
    return {
        "processes": n,
        "s/iteration": this,
        "speed-up": first / this,
        "efficiency": first / this / n,
        "iterations": summaries[n]["iterations"],
        "waiting and reducing, s": _per_iteration(summaries[n], ["reduce"]),
        "resolution, Å": summaries[n]["resolution"],
        "map correlation with one process": _correlation(outs[1], outs[n]),
    }


def _correlation(one: Path, other: Path) -> float:
    import torch

    from cryotorch.data.mrc import read_volume

    maps = [read_volume(out / "map.mrc")[0].flatten().double() for out in (one, other)]
    return float(torch.corrcoef(torch.stack(maps))[0, 1])


def _model(n: int, parts: Parts, summary: dict | None) -> dict[str, object]:
    predicted = parts.seconds(n)
    measured = None if summary is None else _per_iteration(summary)
    return {
        "processes": n,
        "predicted s/iteration": predicted,
        "predicted efficiency": parts.seconds(1) / predicted / n,
        "measured s/iteration": measured,
        "measured / predicted": None if measured is None else measured / predicted,
    }
