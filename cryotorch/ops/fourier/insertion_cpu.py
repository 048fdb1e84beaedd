"""Insertion of slices on the CPU as one compiled loop over images, parts of them, and the poses of each."""

# pyright: reportMissingParameterType=false
# numba finds the types of what it compiles

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cryotorch.ops.compiled import compiled
from cryotorch.ops.fourier.slices_cpu import (
    CHUNK,
    ONE,
    array,
    locate,
    per_slice,
    phase_line,
    unsigned,
)
from cryotorch.ops.threads import in_threads_by_one

MOST_COPIES = 8  # of the sums, for as many threads,
COPIES_MEMORY = 2**29  # bytes in all, unless one takes more
PLANES = 8  # of shared sums that belong to one thread before those of the next come


def copies(size: int) -> int:
    """How many copies of sums of ``size`` bytes the threads of this process have."""
    return max(1, min(torch.get_num_threads(), MOST_COPIES, COPIES_MEMORY // size))


def insert_(
    into: tuple[Tensor, int, int, int],
    rotation: Tensor,
    offset_px: Tensor | None,
    frequency: Tensor,
    spectrum: Tensor,
    weight: Tensor,
) -> None:
    """Add slices (b, m) and weights (b, m) to the sums of an ``Accumulator``.

    Every thread has a copy of the sums of its own; where there are fewer copies, those who share one go through the same
    images, and each adds to planes of its own.

    Args:
        into: sums, reach, padding and box; rotation: (b, n, 3, 3); offset_px: (b, n, 2) or None.
        frequency: (m, 2 or 3), or (b, m, 2 or 3); integers where there are offsets.
    """
    sums, reach, padding, box = into
    totals = sums.numpy()
    turn, points = array(rotation), per_slice(frequency, len(rotation))
    offset = np.zeros((len(turn), 0, 2), np.float32) if offset_px is None else array(offset_px)
    values, weights = array(torch.view_as_real(spectrum.contiguous())), array(weight)
    share = -(-len(rotation) // len(totals))
    team = max(1, min(torch.get_num_threads(), MOST_COPIES) // len(totals))

    def part(thread: int) -> None:
        copy, member = divmod(thread, team)
        mine = slice(copy * share, (copy + 1) * share)
        arrays = turn[mine], offset[mine], points[mine], values[mine], weights[mine]
        _insert(totals[copy], reach, padding, box, member, team, *arrays)

    in_threads_by_one(part, range(team * len(totals)))


@compiled
def _insert(sums, reach, padding, box, member, team, rotation, offset, frequency, spectrum, weight):
    """Chunk by chunk, so that the cells where the poses of an image meet are in the caches."""
    columns, n, m = unsigned(reach + 1), rotation.shape[1], weight.shape[1]
    plane, half, one = unsigned(2 * reach + 1) * columns, box // 2, unsigned(1)
    per_plane = 1.0 / ((2 * reach + 1) * (reach + 1))
    cells, size, moved = sums.reshape(-1, 3), np.float32(padding), offset.shape[1] > 0
    index, sign = np.empty(CHUNK, np.uint64), np.empty(CHUNK, np.float32)
    f, v = np.empty((3, CHUNK), np.float32), np.empty((2, CHUNK), np.float32)
    line = np.empty((n, 4, 2 * half + 1), np.float32)
    for p in range(len(rotation)):
        for q in range(offset.shape[1]):
            phase_line(offset[p, q, 0], box, half, line[q, 0], line[q, 1])
            phase_line(offset[p, q, 1], box, half, line[q, 2], line[q, 3])
        for first in range(0, m, CHUNK):
            start, count = unsigned(first), unsigned(min(CHUNK, m - first))
            for q in range(n):
                locate(
                    rotation[p, q], frequency[p], start, count, size, reach, columns, index, f, sign
                )
                for j in range(count):
                    re, im = spectrum[p, start + j, 0], spectrum[p, start + j, 1]
                    if moved:
                        x = unsigned(int(frequency[p, 0, start + j]) + half)
                        y = unsigned(int(frequency[p, 1, start + j]) + half)
                        cos = line[q, 0, x] * line[q, 2, y] - line[q, 1, x] * line[q, 3, y]
                        sin = line[q, 1, x] * line[q, 2, y] + line[q, 0, x] * line[q, 3, y]
                        re, im = re * cos + im * sin, im * cos - re * sin
                    v[0, j], v[1, j] = re, im * sign[j]
                for j in range(count):
                    first, last = 0, 4
                    if team > 1:
                        lower = np.int64((index[j] + 0.5) * per_plane)
                        first = 0 if lower // PLANES % team == member else 2
                        last = 4 if (lower + 1) // PLANES % team == member else 2
                    re, im, w, x = v[0, j], v[1, j], weight[p, start + j], f[0, j]
                    for row in range(first, last):
                        y = f[1, j] if row & 1 else ONE - f[1, j]
                        z = f[2, j] if row >> 1 else ONE - f[2, j]
                        at = index[j] + unsigned(row & 1) * columns + unsigned(row >> 1) * plane
                        left, right, after = y * z * (ONE - x), y * z * x, at + one
                        cells[at, 0] += re * left
                        cells[at, 1] += im * left
                        cells[at, 2] += w * left
                        cells[after, 0] += re * right
                        cells[after, 1] += im * right
                        cells[after, 2] += w * right
