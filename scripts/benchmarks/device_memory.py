"""The memory of a CUDA device that a refinement takes, reckoned from the shapes of its tensors.

Nothing of it was measured on such a device. What a step holds at its peak was counted, tensor by
tensor, on the pretended device of ``tests/pretend_cuda.py``; memory that kernels take for their own
work (Fourier transforms, sorting) is not in it.
"""

from __future__ import annotations

import math

import torch

from cryotorch.ops.fourier.slices import GPU_POINTS, rows_at_once
from cryotorch.ops.fourier.transforms import LINES, half_plane
from cryotorch.refinement.em.out_of_memory import images_at_once, images_stay
from cryotorch.refinement.pose_search.search import grid_step
from cryotorch.refinement.settings import SearchSettings

Row = dict[str, object]
BOX, PARTICLES, MEMORY = 360, 100_000, 139.0  # GiB of memory
GB = 1e9
# Float32 numbers per voxel of the box.
HELD = 4  # references of both half sets, mask, and what is made of them
# Complex numbers per number that is transformed at once, counted at 48, 96 and 144 px.
WORK_AT_ONCE, WORK_IN_PARTS = 2.27, 3.0
M_STEP = 27.3  # all that the M-step holds at its peak, sums and references included
# Bytes per point of those that are worked on at once.
PER_POINT = {"evaluating poses": 264, "slices": 160, "insertion": 92}
PER_PIXEL = 40  # bytes, of a batch: images, transforms, CTF, noise, shifted transforms to insert
BLOCK = 4096  # slices whose scores are held at once


def run(box: int = BOX, particles: int = PARTICLES, memory: float = MEMORY) -> dict[str, list[Row]]:
    """Title -> rows, for a refinement to the Nyquist frequency on a device of ``memory`` GiB."""
    free = int(memory * 2**30)
    stays = images_stay(particles, box, free)
    left = free - (4 * particles * box**2 if stays else 0)
    batch = images_at_once(box, left)
    always = [
        _row("images that stay", f"4 n d², n = {particles}", 4 * particles * box**2 * stays),
        _row("references, mask", f"{HELD} x 4 d³", HELD * 4 * box**3),
        _row("sums of both half sets", "24 (d + 3)² (d / 2 + 2)", sums(box)),
    ]
    reference = [
        _row("table of a reference", "8 (2 d + 1)² (d + 2)", table(box)),
        _row("templates", "band 12, 7 degrees", templates(box)),
    ]
    making = [
        _row("making the other reference", "planes twice, table, lines", making_reference(box))
    ]
    work = [
        _row(f"a batch of {batch}", f"{PER_PIXEL} b d²", PER_PIXEL * batch * box**2),
        _row("scores of the coarse search", "b images x shifts x slices", scores(box, batch)),
        _row(
            "points worked on at once",
            f"{PER_POINT['evaluating poses']} bytes each",
            PER_POINT["evaluating poses"] * points(box),
        ),
    ]
    m_step = [_row("M-step, all of it", f"{M_STEP} x 4 d³", M_STEP * 4 * box**3)]
    batch_now = always + reference + work
    totals = {
        "E-step, while a reference is made": always + reference + making + work[:1],
        "E-step, search and insertion": batch_now,
        "M-step": always[:1] + m_step,
    }
    parts = [*always, *reference, *making, *work, *m_step]
    peaks: list[Row] = [
        {"peak": name, "GB": sum(row["GB"] for row in rows)} for name, rows in totals.items()
    ]
    for row in peaks:
        row["of the device"] = row["GB"] * GB / free
    where = f"{particles} x {box} pixels, {memory:g} GiB, reckoned"
    return {f"Parts, {where}": parts, f"Peaks, {where}": peaks}


def _row(part: str, by: str, count: float) -> Row:
    return {"part": part, "by": by, "GB": count / GB}


def sums(box: int) -> int:
    """Bytes of the sums of both half sets."""
    return 24 * (box + 3) ** 2 * (box // 2 + 2)


def making_reference(box: int) -> int:
    """Bytes that ``projector`` holds at its peak: planes, twice, the table, lines at work."""
    lines, columns, padded = 2 * box + 1, box + 1, 2 * box
    at_once = lines * padded * columns
    work = WORK_IN_PARTS * LINES if at_once > LINES else WORK_AT_ONCE * at_once
    return round(8 * (2 * box * lines * columns + work)) + table(box)


def table(box: int) -> int:
    """Bytes of a reference up to the Nyquist frequency of an even box, ready for slicing."""
    return 8 * (2 * box + 1) ** 2 * (box + 2)


def templates(box: int) -> int:
    """Bytes of the slices of the coarse search and of their rotations."""
    coefficients, rotations = _coarse(box)
    return rotations * (3 * 2 * coefficients + 2 * 36)


def scores(box: int, batch: int) -> int:
    """Bytes of a batch's scores: products with a block of slices, shifted images, the best."""
    coefficients, rotations = _coarse(box)
    usual = SearchSettings()
    step = max(1.0, box / (4 * min(usual.coarse_limit, box / 2)))
    shifts = math.ceil(math.pi * (0.1 * box / step) ** 2)
    block = min(BLOCK, rotations)
    return batch * (shifts * (3 * 2 * block + 12 * coefficients) + 4 * 2 * rotations)


def points(box: int) -> int:
    """Points of slices up to the Nyquist frequency that are worked on at once."""
    count = half_plane(box).count(box / 2)
    return min(GPU_POINTS, rows_at_once(count, torch.device("cuda")) * count)


def _coarse(box: int) -> tuple[int, int]:
    """Coefficients and rotations of the coarse search; the rotations stand for twice as many."""
    usual = SearchSettings()
    limit = min(usual.coarse_limit, box / 2)
    step = grid_step(limit, usual)
    views = 4 * math.pi / step**2
    return half_plane(box).count(limit), round(views) * round(math.pi / step)
