"""Insertion of slices on the CPU: one compiled loop, in which the poses of an image that meet one cell of the grid are added up first."""

# pyright: reportMissingParameterType=false
# numba finds the types of what it compiles

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cryotorch.ops.compiled import compiled
from cryotorch.ops.fourier.slices_cpu import CHUNK, ONE, array, locate, per_slice, phase_line
from cryotorch.ops.threads import in_threads_by_one

MOST_COPIES = 8  # of the sums, for as many threads


def insert_(
    into: tuple[Tensor, int, int, int],
    rotation: Tensor,
    offset_px: Tensor | None,
    frequency: Tensor,
    spectrum: Tensor,
    weight: Tensor,
) -> None:
    """Add slices (b, m) and weights (b, m) to the sums of an ``Accumulator``, of which every thread has a copy of its own.

    Args:
        into: sums, reach, padding and box; rotation: (b, n, 3, 3); offset_px: (b, n, 2) or None.
        frequency: (m, 2 or 3), or (b, m, 2 or 3); integers where there are offsets.
    """
    sums, *grid = into
    totals = sums.numpy()
    turn, points = array(rotation), per_slice(frequency, len(rotation))
    offset = np.zeros((len(turn), 0, 2), np.float32) if offset_px is None else array(offset_px)
    values, weights = array(torch.view_as_real(spectrum.contiguous())), array(weight)
    share = -(-len(rotation) // len(totals))

    def part(copy: int) -> None:
        mine = slice(copy * share, (copy + 1) * share)
        arrays = turn[mine], offset[mine], points[mine], values[mine], weights[mine]
        _insert(totals[copy], *grid, *arrays)

    in_threads_by_one(part, range(len(totals)))


@compiled
def _insert(sums, reach, padding, box, rotation, offset, frequency, spectrum, weight):
    columns, n, m = reach + 1, rotation.shape[1], weight.shape[1]
    plane = (2 * reach + 1) * columns
    flat = sums.reshape(-1)
    index, sign = np.empty((n, CHUNK), np.int64), np.empty((n, CHUNK), np.float32)
    f, v = np.empty((n, 3, CHUNK), np.float32), np.empty((n, 2, CHUNK), np.float32)
    corner, size, moved = np.empty(24, np.float32), np.float32(padding), offset.shape[1] > 0
    half = box // 2
    phase = np.empty((n, 4, 2 * half + 1), np.float32)
    for p in range(len(rotation)):
        if moved:
            for q in range(n):
                phase_line(offset[p, q, 0], box, half, phase[q, 0], phase[q, 1])
                phase_line(offset[p, q, 1], box, half, phase[q, 2], phase[q, 3])
        for start in range(0, m, CHUNK):
            count = min(CHUNK, m - start)
            for q in range(n):
                locate(
                    rotation[p, q], frequency[p], start, count, size, reach, index[q], f[q], sign[q]
                )
                for j in range(count):
                    re, im = spectrum[p, start + j, 0], spectrum[p, start + j, 1]
                    if moved:
                        x = int(frequency[p, start + j, 0]) + half
                        y = int(frequency[p, start + j, 1]) + half
                        cos = phase[q, 0, x] * phase[q, 2, y] - phase[q, 1, x] * phase[q, 3, y]
                        sin = phase[q, 1, x] * phase[q, 2, y] + phase[q, 0, x] * phase[q, 3, y]
                        re, im = re * cos + im * sin, im * cos - re * sin
                    v[q, 0, j], v[q, 1, j] = re, im * sign[q, j]
            for j in range(count):
                w = weight[p, start + j]
                q = 0
                while q < n:
                    at = index[q, j]
                    corner[:] = 0
                    while q < n and index[q, j] == at:
                        re, im = v[q, 0, j], v[q, 1, j]
                        x = f[q, 0, j]
                        for row in range(4):
                            y = f[q, 1, j] if row & 1 else ONE - f[q, 1, j]
                            z = f[q, 2, j] if row >> 1 else ONE - f[q, 2, j]
                            left, right = y * z * (ONE - x), y * z * x
                            corner[6 * row] += re * left
                            corner[6 * row + 1] += im * left
                            corner[6 * row + 2] += w * left
                            corner[6 * row + 3] += re * right
                            corner[6 * row + 4] += im * right
                            corner[6 * row + 5] += w * right
                        q += 1
                    for row in range(4):
                        to = 3 * (at + (row & 1) * columns + (row >> 1) * plane)
                        for c in range(6):
                            flat[to + c] += corner[6 * row + c]
