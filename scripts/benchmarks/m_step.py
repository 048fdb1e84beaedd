"""The M-step shared by several processes: seconds of reduction and rest, beside one process.

On a machine that others use, wall seconds say little. So the table has the longest way too: the
processor seconds of the busiest process between two exchanges, added up, which is what the M-step
would take with a core for each.

    python -m benchmarks.m_step <rank> <world> <folder>

is one of the processes: it reads ``scene.pt`` there and leaves ``<world>_<rank>.json``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

PARTICLES = 200  # whose poses are reduced too
PIXEL_SIZE = 1.5
NOISE = 0.5  # standard deviation in a half map, over that of the phantom
DONE = 4  # iterations: symmetry is not looked for any more


def run(
    boxes: Sequence[int], symmetries: Sequence[str], processes: Sequence[int], repeats: int
) -> dict[str, list[dict[str, object]]]:
    """Tables of seconds, best of so many repeats, and of the largest resident set of a process."""
    rows: list[dict[str, object]] = []
    for box in boxes:
        for symmetry in symmetries:
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                _made(box, symmetry, repeats, folder / "scene.pt")
                found = {n: _together(n, folder) for n in sorted({1, *processes})}
            one = found[1]
            rows += [
                {
                    "box": box,
                    "symmetry": symmetry,
                    "processes": n,
                    "reduce, s": now["reduce"],
                    "M-step, s": now["m_step"],
                    "of one": now["m_step"] / one["m_step"],
                    "longest way, s of CPU": now["way"],
                    "of one's": now["way"] / one["way"],
                    "resident, MiB": now["memory"],
                }
                for n, now in found.items()
            ]
    return {"M-step": rows}


def _together(world: int, folder: Path) -> dict[str, float]:
    here = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": here}
    environment |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.m_step"]
    begun = [
        subprocess.Popen([*command, str(rank), str(world), str(folder)], env=environment)
        for rank in range(world)
    ]
    codes = [process.wait() for process in begun]
    if any(codes):
        from benchmarks.refinement import JobFailed

        raise JobFailed(f"a process of {world} ended with code {max(codes, key=abs)}")
    ranks = [json.loads((folder / f"{world}_{rank}.json").read_text()) for rank in range(world)]
    # stages: of every repeat and rank the seconds between exchanges
    ways = [
        sum(map(max, zip(*stages, strict=True)))
        for stages in zip(*(rank["stages"] for rank in ranks), strict=True)
    ]
    slowest = [max(each) for each in zip(*(rank["m_step"] for rank in ranks), strict=True)]
    return {
        "reduce": median(ranks[0]["reduce"]),
        "m_step": min(slowest),
        "way": min(ways),
        "memory": max(rank["memory"] for rank in ranks),
    }


def _made(box: int, symmetry: str, repeats: int, path: Path) -> None:
    """A phantom's half maps in noise, as sums of images that look from all sides."""
    import torch

    from cryotorch.ops.fourier.transforms import fft_volume, volume_shells
    from cryotorch.ops.geometry.symmetry import point_group
    from cryotorch.ops.models.phantom import phantom

    group = point_group(symmetry)
    volume, halves = phantom(box, PIXEL_SIZE, group), []
    weight = 100 / volume_shells(box).clamp_min(1).float()
    for half in (0, 1):
        draw = torch.Generator().manual_seed(half)
        noise = NOISE * volume.std() * torch.randn(volume.shape, generator=draw)
        numerator = fft_volume(volume + noise) * weight
        halves.append(torch.stack([numerator.real, numerator.imag, weight], -1))
    scene = dict(box=box, group=group, volume=volume, halves=halves, repeats=repeats)
    torch.save(scene, path)


def _one(rank: int, world: int, folder: Path) -> None:
    import torch
    from torch import distributed

    from cryotorch.jobs.config.process import keep_freed_memory
    from cryotorch.refinement.em.iteration import maximize

    keep_freed_memory()
    meet = f"file://{folder}/meet_{world}"
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
    scene = torch.load(folder / "scene.pt", weights_only=False, mmap=True)
    found: dict[str, list] = {"reduce": [], "m_step": [], "stages": []}
    for _ in range(scene["repeats"] + 1):  # the first one warms up
        expectation, ranks = _scene(scene, rank, world), _timed(rank, world)
        distributed.barrier()
        start = time.perf_counter()
        ranks.begin()
        with torch.no_grad():
            maximize(expectation, ranks)
        ranks.stage()
        seconds = time.perf_counter() - start
        reduce = expectation.clock.seconds["reduce"]
        found["reduce"].append(reduce)
        found["m_step"].append(seconds - reduce)
        found["stages"].append(ranks.stages)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    kept = {name: values[1:] for name, values in found.items()}
    (folder / f"{world}_{rank}.json").write_text(json.dumps(kept | {"memory": memory}))
    distributed.destroy_process_group()


def _scene(scene: dict, rank: int, world: int):
    """What a process has after the E-step: its part of the sums of one half set, or all."""
    import torch

    from cryotorch.ops.geometry.rotations import random_rotations
    from cryotorch.particles import Optics, unposed
    from cryotorch.refinement.em.expectation import Expectation
    from cryotorch.refinement.settings import (
        EMSettings,
        MaskSettings,
        ScheduleSettings,
        SearchSettings,
    )
    from cryotorch.refinement.state import ConvergenceHistory, State

    box, middle = scene["box"], scene["box"] / 2
    lens = (torch.full((1,), value) for value in (300.0, 2.7, 0.1, PIXEL_SIZE))
    rotation = random_rotations(PARTICLES, torch.Generator().manual_seed(0))
    particles = unposed(PARTICLES, Optics(*lens)).replace(
        half=torch.arange(PARTICLES) % 2, rotation=rotation, has_pose=True
    )
    settings = EMSettings(
        *(box, PIXEL_SIZE, scene["group"], SearchSettings()),
        ScheduleSettings(6.0, middle - 1),
        MaskSettings(),
        split=box * PIXEL_SIZE / 20,
        window=(0.85 * middle, 0.99 * middle),
    )
    references, noise = torch.stack([scene["volume"]] * 2), torch.ones(2, 1, box // 2 + 1)
    state = State(particles, references, noise, 0.9 * middle, mask_radius=0.35 * box)
    course = ("crossings", "areas", "max_shells", "turns", "motions")
    reached = {name: [0.8 * middle] * DONE for name in course}
    state.convergence = ConvergenceHistory(**reached, shares=[1.0] * DONE)
    expectation = Expectation(state, settings, torch.device("cpu"))
    filled = {half for half in (0, 1) if world == 1 or 2 * rank // world == half}
    sharing = max(1, world / 2)
    for half in filled:
        _fill_(expectation.sums[half], scene["halves"][half] / sharing)
    expectation.filled = filled
    result = expectation.result
    if rank == 0:
        result.rotation.copy_(rotation)
        for part in (result.updated, result.cross, result.power, result.ratio, result.count):
            part.fill_(1)
        result.residual.fill_(1)
        result.sigma.fill_(0.01)
    return expectation


def _fill_(inserted, half) -> None:
    """Put a half transform (d, d, d // 2 + 1, 3) where it belongs; x = 0 is there twice."""
    d, reach = len(half), inserted.reach
    ends = ((slice(0, d // 2), slice(reach, reach + d // 2)),)
    ends += ((slice(d // 2, d), slice(reach - d // 2, reach)),)
    for z, to_z in ends:
        for y, to_y in ends:
            inserted.sums[0, to_z, to_y, : d // 2 + 1] = half[z, y]
    inserted.sums[0, :, :, 0] /= 2


def _timed(rank: int, world: int):
    from cryotorch.refinement.runtime.ranks import Ranks

    class Timed(Ranks):
        """Looks at the processor's clock after every exchange."""

        def begin(self) -> None:
            self.stages: list[float] = []
            self.before = time.process_time()

        def stage(self) -> None:
            now = time.process_time()
            self.stages.append(now - self.before)
            self.before = now

        def each(self, pieces: Sequence[Callable], at: Sequence[int] | None = None) -> list:
            results = super().each(pieces, at)
            self.stage()
            return results

    return Timed(rank, world)


if __name__ == "__main__":
    _one(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
