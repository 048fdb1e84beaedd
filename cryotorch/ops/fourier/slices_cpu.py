"""Slices on the CPU as plain loops that numba compiles: no temporaries, so several times faster than tensor operations.

They compute what ``slices.sample``, ``slices.add_slices_`` and ``scores.gram_of_tensors`` do, which stay for CUDA and as their
reference. Compiled code is kept on disk; the first call on a machine takes some seconds.
"""

# pyright: reportMissingParameterType=false
# numba finds the types of what it compiles

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from cryotorch.ops.compiled import compiled, inlined
from cryotorch.ops.threads import in_threads

CHUNK = 128  # points handled together: their work arrays stay in the first-level cache
ONE, ZERO = np.float32(1), np.float32(0)


def extract_slices_cpu(
    table: Tensor, reach: int, padding: int, rotation: Tensor, frequency: Tensor
) -> Tensor:
    """Slices (b, m) complex64 of a ``Projector``'s table; frequencies as for ``slices.slice_coordinates``."""
    out = np.empty((len(rotation), frequency.shape[-2], 2), np.float32)
    turn, points = array(rotation), per_slice(frequency, len(rotation))
    values = array(table).reshape(-1)

    def part(start: int, stop: int) -> None:
        _slices(values, reach, padding, turn[start:stop], points[start:stop], out[start:stop])

    in_threads(part, len(rotation))
    return torch.view_as_complex(torch.from_numpy(out))


def gram(slices: tuple, images: tuple, poses: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The inner products (p, 7, 7) of ``scores.PoseTerms``.

    Args:
        slices: table, reach, padding of a ``Projector``, and the box.
        images: frequency (m, 2); spectrum complex, gain, precision of an ``Observation``, and its magnification or None.
        poses: rows of the images (p,), rotation (p, 3, 3), shift_px (p, 2).
    """
    out = np.empty((len(poses[0]), 7, 7), np.float32)
    fixed, arrays = _fixed(slices, images), (poses[0].numpy(), *map(array, poses[1:]), out)

    def part(start: int, stop: int) -> None:
        _gram(fixed, *(values[start:stop] for values in arrays))

    in_threads(part, len(out))
    return torch.from_numpy(out)


def ascend(
    slices: tuple,
    images: tuple,
    poses: tuple[Tensor, Tensor, Tensor],
    steps: int,
    rule: tuple[float, ...],
    prior: Tensor,
    start: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``search.ascend`` without a prior: inner products, rotations and shifts at the end.

    Args:
        slices, images, poses: as for ``gram``; start: their products, where they are known.
        rule: first, least and most damping, longest turn (radians) and move (pixels) of a step; prior: (5,) precision.
    """
    known, which = start is not None, poses[0].numpy()
    out = np.empty((len(which), 7, 7), np.float32) if start is None else array(start).copy()
    turn, shift = (array(values).copy() for values in poses[1:])
    fixed = _fixed(slices, images)
    how: tuple = (steps, known, rule, prior.double().numpy())

    def part(start: int, stop: int) -> None:
        _ascend(fixed, *(values[start:stop] for values in (which, turn, shift, out)), *how)

    in_threads(part, len(which))
    return torch.from_numpy(out), torch.from_numpy(turn), torch.from_numpy(shift)


def _fixed(slices: tuple, images: tuple) -> tuple:
    table, reach, padding, box = slices
    frequency, spectrum, gain, precision, magnification = images
    if magnification is None:
        magnification = torch.empty(0, 2, 2)
    arrays = frequency.mT, torch.view_as_real(spectrum), gain, precision, magnification
    return array(table).reshape(-1), reach, padding, box, *map(array, arrays)


def array(tensor: Tensor) -> np.ndarray:
    """A tensor of any shape as float32 in memory order."""
    return tensor.detach().float().contiguous().numpy()


def per_slice(frequency: Tensor, n: int) -> np.ndarray:
    """Frequencies (n, 3, m) of every slice, axis by axis: one compiled version serves all."""
    full = torch.nn.functional.pad(frequency, (0, 3 - frequency.shape[-1])).mT
    return np.broadcast_to(array(full.reshape(-1, *full.shape[-2:])), (n, *full.shape[-2:]))


@inlined
def unsigned(x):
    """An index that is not negative: numba gives negative ones a meaning, and loops that ask for it do not become vector instructions."""
    return np.uint64(np.uint32(x))


@inlined
def locate(turn, k, start, n, padding, reach, columns, index, fraction, sign):
    """Lower corners, fractions and signs of n points R^T k, k (3, m), see ``slices.corner_indices``; columns: of the table or the sums.

    Counted from the table's corner coordinates are positive, so that cutting off the fraction rounds down: this becomes vector
    instructions, which ``math.floor`` does not. Both sides are bounded: numbers that are not finite lead to no other place.
    """
    low, last, top = np.int32(0), np.int32(reach - 1), np.int32(2 * reach - 1)
    side, middle = np.int32(2 * reach + 1), np.float32(reach)
    xx, xy, xz = turn[0, 0] * padding, turn[1, 0] * padding, turn[2, 0] * padding
    yx, yy, yz = turn[0, 1] * padding, turn[1, 1] * padding, turn[2, 1] * padding
    zx, zy, zz = turn[0, 2] * padding, turn[1, 2] * padding, turn[2, 2] * padding
    for j in range(n):
        kx, ky, kz = k[0, start + j], k[1, start + j], k[2, start + j]
        x = xx * kx + xy * ky + xz * kz
        s = -ONE if x < ZERO else ONE
        x = x * s
        y = (yx * kx + yy * ky + yz * kz) * s + middle
        z = (zx * kx + zy * ky + zz * kz) * s + middle
        at_x = min(max(np.int32(x), low), last)
        at_y = min(max(np.int32(y), low), top)
        at_z = min(max(np.int32(z), low), top)
        fraction[0, j] = x - np.float32(at_x)
        fraction[1, j] = y - np.float32(at_y)
        fraction[2, j] = z - np.float32(at_z)
        sign[j] = s
        index[j] = unsigned(at_z * side + at_y) * columns + unsigned(at_x)


@inlined
def _gather(table, index, n, columns, plane, corner):
    """The four rows around each point, of a flat table: corner (16, n), rows (y, z) times (x re, x im, x+1 re, x+1 im)."""
    for j in range(n):
        for row in range(4):
            at = index[j] + unsigned(row & 1) * columns + unsigned(row >> 1) * plane
            for q in range(4):
                corner[4 * row + q, j] = table[at + at + unsigned(q)]


@compiled
def _slices(table, reach, padding, rotation, frequency, out):
    columns = unsigned(reach + 2)
    plane = unsigned(2 * reach + 1) * columns
    index, sign = np.empty(CHUNK, np.uint64), np.empty(CHUNK, np.float32)
    f, c = np.empty((3, CHUNK), np.float32), np.empty((16, CHUNK), np.float32)
    size, m = np.float32(padding), out.shape[1]
    for p in range(len(rotation)):
        for first in range(0, m, CHUNK):
            start, n = unsigned(first), unsigned(min(CHUNK, m - first))
            locate(rotation[p], frequency[p], start, n, size, reach, columns, index, f, sign)
            _gather(table, index, n, columns, plane, c)
            for part in range(2):
                for j in range(n):
                    x, y, z = f[0, j], f[1, j], f[2, j]
                    a = c[part, j] + x * (c[2 + part, j] - c[part, j])
                    b = c[4 + part, j] + x * (c[6 + part, j] - c[4 + part, j])
                    low = a + y * (b - a)
                    a = c[8 + part, j] + x * (c[10 + part, j] - c[8 + part, j])
                    b = c[12 + part, j] + x * (c[14 + part, j] - c[12 + part, j])
                    value = low + z * (a + y * (b - a) - low)
                    out[p, start + j, part] = value * sign[j] if part else value


@inlined
def phase_line(shift, box, most, cos, sin):
    """cos and sin of 2 pi k shift / box for k from -most to most."""
    step = 2 * math.pi / box * shift
    for k in range(most + 1):
        cos[most + k], sin[most + k] = math.cos(step * k), math.sin(step * k)
        cos[most - k], sin[most - k] = cos[most + k], -sin[most + k]


@compiled
def _gram(fixed, image, rotation, shift, out):
    work = _work(fixed[4])
    for p in range(len(rotation)):
        _products(fixed, image[p], rotation[p], shift[p], work, out[p])


@compiled
def _ascend(fixed, image, rotation, shift, out, steps, known, rule, prior):
    """Damped Gauss-Newton steps from pose to pose, each to its end before the next: its part of the table is in the caches then."""
    work = _work(fixed[4])
    step, trial, moved = np.empty(5), np.empty((3, 3), np.float32), np.empty(2, np.float32)
    found = np.empty((7, 7), np.float32)
    first, least, most, longest_turn, longest_move = rule
    for p in range(len(rotation)):
        if not known:
            _products(fixed, image[p], rotation[p], shift[p], work, out[p])
        damping, value = first, out[p, 0, 1] - out[p, 1, 1] / 2
        for _ in range(steps):
            _solve(out[p], damping, prior, step)
            turn = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
            move = math.sqrt(step[3] ** 2 + step[4] ** 2)
            step *= min(1, longest_turn / max(turn, 1e-9), longest_move / max(move, 1e-9))
            _turn(step, rotation[p], trial)
            moved[0], moved[1] = shift[p, 0] + step[3], shift[p, 1] + step[4]
            _products(fixed, image[p], trial, moved, work, found)
            reached = found[0, 1] - found[1, 1] / 2
            if reached > value:
                value, damping = reached, max(damping / 4, least)
                rotation[p], shift[p], out[p] = trial, moved, found
            else:
                damping = min(damping * 8, most)


@inlined
def _solve(gram, damping, prior, x):
    """(H + damping diag H + prior / 2) x = gradient by Cholesky's decomposition, H and the gradient as in ``PoseTerms``."""
    low = np.zeros((5, 5))
    for i in range(5):
        x[i] = gram[2 + i, 0] - gram[2 + i, 1]
        for j in range(i + 1):
            value = float(gram[2 + i, 2 + j])
            if i == j:
                value += damping * value + prior[i] / 2
            for q in range(j):
                value -= low[i, q] * low[j, q]
            low[i, j] = math.sqrt(max(value, 1e-30)) if i == j else value / low[j, j]
    for i in range(5):
        for j in range(i):
            x[i] -= low[i, j] * x[j]
        x[i] /= low[i, i]
    for i in range(4, -1, -1):
        for j in range(i + 1, 5):
            x[i] -= low[j, i] * x[j]
        x[i] /= low[i, i]


@inlined
def _turn(w, rotation, out):
    """exp([w]x) R, see ``rotations.from_rotation_vector``."""
    angle2 = w[0] ** 2 + w[1] ** 2 + w[2] ** 2
    angle = math.sqrt(angle2)
    a = 1 - angle2 / 6 if angle2 < 1e-6 else math.sin(angle) / angle
    b = 0.5 - angle2 / 24 if angle2 < 1e-6 else (1 - math.cos(angle)) / angle2
    for j in range(3):
        x, y, z = rotation[0, j], rotation[1, j], rotation[2, j]
        # w x r and w x (w x r)
        p, q, r = w[1] * z - w[2] * y, w[2] * x - w[0] * z, w[0] * y - w[1] * x
        out[0, j] = x + a * p + b * (w[1] * r - w[2] * q)
        out[1, j] = y + a * q + b * (w[2] * p - w[0] * r)
        out[2, j] = z + a * r + b * (w[0] * q - w[1] * p)


@inlined
def _work(frequency):
    """Arrays that all poses of a thread share."""
    most = int(np.abs(frequency).max())
    index, sign = np.empty(CHUNK, np.uint64), np.empty(CHUNK, np.float32)
    f, c = np.empty((3, CHUNK), np.float32), np.empty((16, CHUNK), np.float32)
    g, v = np.empty((6, CHUNK), np.float32), np.empty((14, CHUNK), np.float32)
    turns, k = (
        np.empty((4, 2 * most + 1), np.float32),
        np.zeros((3, frequency.shape[1]), np.float32),
    )
    k[:2], place = frequency, np.empty(frequency.shape, np.uint32)  # in the lines of phases
    for t in range(frequency.shape[1]):
        place[0, t], place[1, t] = int(frequency[0, t]) + most, int(frequency[1, t]) + most
    return index, sign, f, c, g, v, turns, k, place, np.empty((7, 7))


@inlined
def _products(fixed, b, r, shift, work, out):
    """Per chunk of points: locate, gather, interpolate with gradients, weight, move the image, 28 products."""
    table, reach, padding, box, frequency, spectrum, gain, precision, magnification = fixed
    index, sign, f, c, g, v, turns, k, place, total = work
    m, half, columns = frequency.shape[1], turns.shape[1] // 2, unsigned(reach + 2)
    plane = unsigned(2 * reach + 1) * columns
    cos_x, sin_x, cos_y, sin_y = turns
    size, turn = np.float32(padding), np.float32(2 * math.pi / box)
    if len(magnification):
        for t in range(unsigned(m)):
            kx, ky = frequency[0, t], frequency[1, t]
            k[0, t] = magnification[b, 0, 0] * kx + magnification[b, 0, 1] * ky
            k[1, t] = magnification[b, 1, 0] * kx + magnification[b, 1, 1] * ky
    phase_line(shift[0], box, half, cos_x, sin_x)
    phase_line(shift[1], box, half, cos_y, sin_y)
    total[:] = 0
    for first in range(0, m, CHUNK):
        start, n = unsigned(first), unsigned(min(CHUNK, m - first))
        locate(r, k, start, n, size, reach, columns, index, f, sign)
        _gather(table, index, n, columns, plane, c)
        for part in range(2):
            _interpolate(c, part, f, r, size, n, g, v)
        for j in range(n):
            root = math.sqrt(precision[b, start + j])
            w, s = gain[b, start + j] * root, sign[j]
            qx, qy = k[0, start + j], k[1, start + j]
            re, im = v[2, j] * w, v[3, j] * (s * w)
            v[2, j], v[3, j] = re, im
            for part in range(2):  # dp/dw, see slices.slices_with_gradient
                a = w if part else w * s
                x, y, z = g[3 * part, j] * a, g[3 * part + 1, j] * a, g[3 * part + 2, j] * a
                v[4 + part, j], v[6 + part, j] = -qy * z, qx * z
                v[8 + part, j] = qy * x - qx * y
            kx, ky = frequency[0, start + j] * turn, frequency[1, start + j] * turn
            v[10, j], v[11, j], v[12, j], v[13, j] = -im * kx, re * kx, -im * ky, re * ky
            v[0, j] = root
        for j in range(n):
            x, y = unsigned(place[0, start + j]), unsigned(place[1, start + j])
            cos = cos_x[x] * cos_y[y] - sin_x[x] * sin_y[y]
            sin = sin_x[x] * cos_y[y] + cos_x[x] * sin_y[y]
            re, im = spectrum[b, start + j, 0] * v[0, j], spectrum[b, start + j, 1] * v[0, j]
            v[0, j], v[1, j] = re * cos + im * sin, im * cos - re * sin
        for i in range(7):
            for o in range(i, 7):
                product = ZERO
                for j in range(n):
                    product += v[2 * i, j] * v[2 * o, j] + v[2 * i + 1, j] * v[2 * o + 1, j]
                total[i, o] += product
    for i in range(7):
        for o in range(7):
            out[i, o] = total[min(i, o), max(i, o)]


@inlined
def _interpolate(c, part, f, r, size, n, g, v):
    """Values (into v) and gradients in the particle frame (into g) of the real or imaginary part."""
    for j in range(n):
        x, y, z = f[0, j], f[1, j], f[2, j]
        a0, a1, a2, a3 = c[part, j], c[4 + part, j], c[8 + part, j], c[12 + part, j]
        d0, d1 = c[2 + part, j] - a0, c[6 + part, j] - a1
        d2, d3 = c[10 + part, j] - a2, c[14 + part, j] - a3
        a0, a1, a2, a3 = a0 + x * d0, a1 + x * d1, a2 + x * d2, a3 + x * d3
        low, high = a0 + y * (a1 - a0), a2 + y * (a3 - a2)
        gz = high - low
        gy = a1 - a0 + z * (a3 - a2 - a1 + a0)
        left, right = d0 + y * (d1 - d0), d2 + y * (d3 - d2)
        gx = left + z * (right - left)
        v[2 + part, j] = low + z * gz
        for i in range(3):
            g[3 * part + i, j] = size * (r[i, 0] * gx + r[i, 1] * gy + r[i, 2] * gz)
