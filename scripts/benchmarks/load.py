"""Large sets of small images: memory, open files, and whether the time per image stays that of few.

The images are copies of simulated ones, each with noise of its own. Boxes are so small that what is
spent on rows and files shows beside what is spent on pixels.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.refinement import Data, Run, finish, refine, simulated
from benchmarks.scale import M_STEP

Row = dict[str, object]
BOX, PIXEL_SIZE = 16, 8.0
SET = [f"box_size={BOX}", f"pixel_size={PIXEL_SIZE}", "n_particles=2000", "snr=0.5"]
FEW = 2000  # images whose time per image is the measure
MEMORY = 6 * 1024.0  # MiB, for a million
SLOWER = (1.2, 2.0)  # times the time per image: of a large set, of many stacks


def run(
    folder: Path, rows: int, many: int, stacks: int, changes: Sequence[str]
) -> dict[str, list[Row]]:
    """An iteration of job=homo_refine: FEW and ``many`` images, one stack and ``stacks``, ``rows``.

    A count of 0 leaves its rows of the table out.
    """
    data = simulated(folder / "data", SET, "C1")
    found = []
    if many:
        few = _measure(data, folder / "few", FEW, 1, changes)
        found += [few, _measure(data, folder / "many", many, 1, changes, few, SLOWER[0])]
    if stacks:
        n = 7 * stacks
        one = _measure(data, folder / "one_stack", n, 1, changes)
        found += [one, _measure(data, folder / "stacks", n, stacks, changes, one, SLOWER[1])]
    if rows:
        found.append(_measure(data, folder / "rows", rows, 1, changes))
        found[-1]["goal"] = f"{MEMORY:.0f} MiB"
        found[-1]["met"] = found[-1]["peak, MiB"] <= MEMORY
    return {"Load, one iteration": found}


def _measure(
    data: Data,
    folder: Path,
    n: int,
    stacks: int,
    changes: Sequence[str],
    beside: Row | None = None,
    slower: float = math.inf,
) -> Row:
    # in a process of its own, for the memory of the next is counted from that of this one
    make = [sys.executable, "-m", "benchmarks.load", data.particles, folder, n, stacks]
    finish([str(word) for word in make], folder.parent / f"{folder.name}.log")
    given = Data(folder / "particles.star", data.volume)
    done = refine(given, folder / "out", ["max_iterations=1", "trainer=cpu", *changes])
    row = _row(done, json.loads((folder / "out" / "summary.json").read_text()), n, stacks)
    for path in folder.glob("*.mrcs"):
        path.unlink()
    if beside is not None:
        ratio = row["E-step, ms/image"] / beside["E-step, ms/image"]
        row |= {"of the time beside": ratio, "goal": f"{slower:g} times", "met": ratio <= slower}
    return row


def _row(done: Run, summary: dict, n: int, stacks: int) -> Row:
    history = summary["history"][-1]
    # without what a map costs, however few its images
    once = sum(history.get(f"seconds_{phase}", 0.0) for phase in ("templates", *M_STEP))
    return {
        "images": n,
        "stacks": stacks,
        "whole run, s": done.seconds,
        "iteration, s": history["seconds"],
        "E-step, ms/image": 1e3 * (history["seconds"] - once) / n,
        "peak, MiB": done.memory,
        "of the time beside": None,
        "goal": "-",
        "met": None,
    }


def copies(source: Path, folder: Path, n: int, stacks: int) -> None:
    """A particle file of n images in so many stacks: those of ``source`` again, noisier."""
    import numpy as np
    import torch

    from cryotorch.data.mrc import write_stack
    from cryotorch.data.particle_file import read_particles
    from cryotorch.data.stacks import Stacks
    from cryotorch.data.star import write_star

    folder.mkdir(parents=True, exist_ok=True)
    file = read_particles(source)
    few = torch.from_numpy(Stacks(file.stacks).read(file.particles.address.numpy()))
    draw, noise = torch.Generator().manual_seed(0), 0.5 * float(few.std())
    edges = [n * i // stacks for i in range(stacks + 1)]
    names = []
    for number, (start, stop) in enumerate(pairwise(edges), 1):
        parts = torch.arange(start, stop).split(1 << 14)
        images = (few[at % len(few)] for at in parts)
        noisy = (part + noise * torch.randn(part.shape, generator=draw) for part in images)
        name = f"stack_{number:05d}.mrcs"
        write_stack(folder / name, noisy, stop - start, few.shape[-1], file.pixel_size)
        names += [f"{i:06d}@{name}" for i in range(1, stop - start + 1)]
    table = file.tables["particles"].taken(np.arange(n) % len(few))
    table["rlnImageName"] = names
    write_star(folder / "particles.star", {**file.tables, "particles": table})


if __name__ == "__main__":
    copies(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
