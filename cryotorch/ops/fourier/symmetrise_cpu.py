"""Symmetric copies of sums on the CPU: one compiled loop over one wedge of the band, copied out exactly."""

# pyright: reportMissingParameterType=false
# numba finds the types of what it compiles

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cryotorch.ops.compiled import compiled, inlined
from cryotorch.ops.threads import in_threads_by_one

ON_GRID = 1e-5  # grid steps: a coordinate that near to a grid point is on it


def add_copies(tables: list[Tensor], band: float, rim: int, grid: Tensor, cosets: Tensor) -> Tensor:
    """Sums turned by all rotations c h of a group, added up: (z, y, x, 3) float32.

        S(k) = sum_c F(c^T k),   F(k) = sum_h V(h^T k)

    F needs no interpolation, and S is the same at all h k: it is computed at one of them.

    Args:
        tables: of one, which is taken out of the list to be forgotten when it has been read: V (z, y, x, 3) as (re, im, weight), z, y from
            -m to m, x from -1 to m, zero beyond ``band`` grid points.
        rim: grid points between the band and m.
        grid: (h, 3, 3) rotations that map the grid onto itself; cosets: (c, 3, 3), identity first.
    """
    operators = grid.numpy().astype(np.int64)
    values = tables.pop().numpy()
    reach = values.shape[2] - 2 - rim

    def whole(values: np.ndarray, turns: np.ndarray, orbit: np.ndarray) -> np.ndarray:
        out = np.zeros_like(values)
        planes = range(-reach, reach + 1)
        in_threads_by_one(lambda z: _plane(values, z, reach, rim, band, turns, orbit, out), planes)
        mirror = out[::-1, ::-1, 2]
        out[:, :, 0] = mirror
        out[:, :, 0, 1] = -mirror[..., 1]
        return out

    if len(operators) > 1:
        values = whole(values, operators.transpose(0, 2, 1).astype(np.float64), operators)
    if len(cosets) > 1:
        values = whole(values, cosets.double().numpy().transpose(0, 2, 1).copy(), operators)
    return torch.from_numpy(values)


@compiled
def _plane(values, z, reach, rim, band, turns, orbit, out):
    """Of one plane the points that stand for their orbit: the sum over ``turns``, written to all of the orbit."""
    edge, most = reach + rim, band * band - z * z
    at, n = np.empty(((2 * reach + 1) * (reach + 1), 2), np.int64), 0
    for y in range(-reach, reach + 1):
        for x in range(reach + 1):
            if y * y + x * x <= most and _leads(orbit, x, y, z, edge):
                at[n, 0], at[n, 1] = x, y
                n += 1
    total = np.empty((n, 3), np.float32)
    for p in range(n):
        total[p] = values[z + edge, at[p, 1] + edge, at[p, 0] + 1]
    for t in range(1, len(turns)):
        _add_values(values.reshape(-1), edge, turns[t], at[:n], z, total)
    for p in range(n):
        re, im, weight = total[p, 0], total[p, 1], max(total[p, 2], np.float32(0))
        for h in range(len(orbit)):
            i, j, k = _turned(orbit[h], at[p, 0], at[p, 1], z)
            if i >= 0:
                row = out[k + edge, j + edge, i + 1]
                row[0], row[1], row[2] = re, im, weight
            if i <= 0:
                row = out[edge - k, edge - j, 1 - i]
                row[0], row[1], row[2] = re, -im, weight


@inlined
def _turned(operator, x, y, z):
    i = operator[0, 0] * x + operator[0, 1] * y + operator[0, 2] * z
    j = operator[1, 0] * x + operator[1, 1] * y + operator[1, 2] * z
    k = operator[2, 0] * x + operator[2, 1] * y + operator[2, 2] * z
    return i, j, k


@inlined
def _leads(orbit, x, y, z, edge):
    """Whether no point of the orbit under ``orbit`` and inversion comes later in (z, y, x)."""
    side = 2 * edge + 1
    own = (z * side + y) * side + x
    for h in range(len(orbit)):
        i, j, k = _turned(orbit[h], x, y, z)
        other = (k * side + j) * side + i
        # the half space x >= 0 holds one of k and -k, and both where x = 0
        if i < 0 or (i == 0 and other < 0):
            other = -other
        if other > own:
            return False
    return True


def cubic(f):
    """Keys' weights of the grid points -1, 0, 1, 2 for a point at f from 0 to 1 behind 0, a scalar or a tensor of any shape."""
    return (
        ((-0.5 * f + 1) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1,
        ((-1.5 * f + 2) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )


_cubic = inlined(cubic)


@inlined
def _add_values(flat, edge, turn, at, z, total):
    """Add the sums (re, im, weight) at ``turn`` (x, y, z) for the points (x, y) of a plane."""
    side, columns = np.uint64(2 * edge + 1), np.uint64(edge + 2)
    one, three = np.uint64(1), np.uint64(3)
    wx, wy, wz = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    for p in range(len(at)):
        x, y = at[p, 0], at[p, 1]
        i = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
        j = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
        k = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z
        sign = np.float32(1)
        if i < 0:
            i, j, k, sign = -i, -j, -k, np.float32(-1)
        # counted from the table's corner positions are positive: cutting off rounds down
        i, j, k = i + ON_GRID + 1, j + ON_GRID + edge, k + ON_GRID + edge
        at_x, at_y, at_z = np.uint64(i), np.uint64(j), np.uint64(k)
        i, j, k = i - at_x - ON_GRID, j - at_y - ON_GRID, k - at_z - ON_GRID
        i, j, k = i if i > ON_GRID else 0.0, j if j > ON_GRID else 0.0, k if k > ON_GRID else 0.0
        if i == 0 and j == 0 and k == 0:
            row = ((at_z * side + at_y) * columns + at_x) * three
            total[p, 0] += flat[row]
            total[p, 1] += flat[row + one] * sign
            total[p, 2] += flat[row + one + one]
            continue
        wx[0], wx[1], wx[2], wx[3] = _cubic(i)
        wy[0], wy[1], wy[2], wy[3] = _cubic(j)
        wz[0], wz[1], wz[2], wz[3] = _cubic(k)
        re, im, weight = np.float32(0), np.float32(0), np.float32(0)
        for a in range(4):
            if wz[a] == 0:
                continue
            for b in range(4):
                w = wz[a] * wy[b]
                row = ((at_z + np.uint64(a) - one) * side + at_y + np.uint64(b) - one) * columns
                row = (row + at_x - one) * three
                for c in range(4):
                    re += w * wx[c] * flat[row]
                    im += w * wx[c] * flat[row + one]
                    weight += w * wx[c] * flat[row + one + one]
                    row += three
        total[p, 0] += re
        total[p, 1] += im * sign
        total[p, 2] += weight
