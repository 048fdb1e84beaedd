"""Symmetry on the sums of the normal equations: every image counts once for each of its symmetric views."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from cryotorch.ops.fourier import symmetrise_cpu
from cryotorch.ops.fourier.reconstruct import Sums
from cryotorch.ops.fourier.symmetrise_cpu import ON_GRID, cubic
from cryotorch.ops.geometry.symmetry import cosets

RIM = 2  # grid points that the interpolation reads beyond a point
POINTS_AT_ONCE = 1 << 20


def symmetrise(sums: Sums, group: Tensor) -> Sums:
    """``symmetrise_`` of a group (g, 3, 3), and the sums stay as they are."""
    if len(group) == 1:
        return sums
    copy = replace(sums, numerator=sums.numerator.clone(), weight=sums.weight.clone())
    return symmetrise_(copy, group)


def symmetrise_(sums: Sums, group: Tensor) -> Sums:
    """Sum over the rotated copies of a point group (g, 3, 3), identity first: each image once, symmetry once.

    The copies are read by cubic convolution on the grid of the sums (Keys 1981, doi:10.1109/TASSP.1981.1163711): its envelope in
    real space is 0.94 at half of the box's radius and 0.81 at 0.7 of it. Numerator and weights share it, so that it hardly shows
    in their ratio. Rotations that map the grid onto itself are exact. Nothing is read or kept beyond the sums' limit. The result
    is written into the memory of the sums.
    """
    if len(group) == 1:
        return sums
    limit = min(sums.limit, sums.box / 2 - 0.5)  # at Nyquist the grid's two ends meet
    band = limit * sums.padding
    if sums.weight.device.type == "cpu":
        total = symmetrise_cpu.add_copies([_to_table(sums, band)], band, RIM, *cosets(group))
    else:
        total = _add_copies(_to_table(sums, band), band, group)
    return _from_table_(total, sums, limit)


def _to_table(sums: Sums, band: float) -> Tensor:
    """The sums (z, y, x, 3) as (re, im, weight) within ``band`` grid points, with a rim: z, y from -m to m, x from -1 to m."""
    reach = int(band + ON_GRID)
    edge = reach + RIM
    side = 2 * edge + 1
    table = sums.weight.new_zeros(side, side, edge + 2, 3)
    for (z, at_z), (y, at_y) in product(_ends(reach, edge), repeat=2):
        part = table[at_z, at_y, 1 : reach + 2]
        part[..., :2] = torch.view_as_real(sums.numerator[z, y, : reach + 1])
        part[..., 2] = sums.weight[z, y, : reach + 1]
    line = torch.arange(-edge, edge + 1.0, device=table.device).square()
    beyond = line[:, None, None] + line[:, None] + line[edge - 1 :] > band**2
    table.masked_fill_(beyond[..., None], 0)
    table[:, :, 0] = table[:, :, 2].flip(0, 1) * table.new_tensor([1.0, -1.0, 1.0])
    return table


def _from_table_(table: Tensor, sums: Sums, limit: float) -> Sums:
    reach = (len(table) - 1) // 2 - RIM
    numerator, weight = sums.numerator.zero_(), sums.weight.zero_()
    for (z, at_z), (y, at_y) in product(_ends(reach, reach + RIM), repeat=2):
        part = table[at_z, at_y, 1 : reach + 2]
        torch.view_as_real(numerator)[z, y, : reach + 1] = part[..., :2]
        weight[z, y, : reach + 1] = part[..., 2]
    return replace(sums, limit=limit)


def _ends(reach: int, edge: int) -> tuple[tuple[slice, slice], ...]:
    """Where frequencies 0 .. reach and -reach .. -1 lie: in a transform, and in a table from -edge on."""
    below = slice(-reach, None) if reach else slice(0, 0)
    return (slice(0, reach + 1), slice(edge, edge + reach + 1)), (below, slice(edge - reach, edge))


def _add_copies(table: Tensor, band: float, group: Tensor) -> Tensor:
    """``symmetrise_cpu.add_copies`` by tensor operations, for other devices: every rotation of the group at every point."""
    edge, columns = (len(table) - 1) // 2, table.shape[2]
    line = torch.arange(-edge, edge + 1.0, dtype=torch.float64, device=table.device)
    z, y, x = torch.meshgrid(line, line, line[edge:], indexing="ij")
    at = torch.nonzero(z.square() + y.square() + x.square() <= band**2)
    point = torch.stack([at[:, 2], at[:, 1] - edge, at[:, 0] - edge], 1).double()
    flat, out = table.view(-1), torch.zeros_like(table)
    row = torch.arange(12, device=table.device)
    for rows in torch.arange(len(at), device=table.device).split(POINTS_AT_ONCE):
        here, points = at[rows], point[rows]
        total = table[here[:, 0], here[:, 1], here[:, 2] + 1]
        for rotation in group[1:].to(point):
            turned = points @ rotation
            sign = torch.where(turned[:, :1] < 0, -1.0, 1.0)
            turned = turned * sign
            lower = (turned + ON_GRID).floor()
            fraction = turned - lower
            wx, wy, wz = cubic_weights(fraction.where(fraction > ON_GRID, 0)).float().unbind(1)
            i, j, k = lower.long().unbind(1)
            read = torch.zeros(len(points), 12, device=table.device)
            for a, b in product(range(4), repeat=2):
                start = ((k + edge + a - 1) * len(table) + j + edge + b - 1) * columns + i
                read += (wz[:, a] * wy[:, b])[:, None] * flat[3 * start[:, None] + row]
            value = (read.view(-1, 4, 3) * wx[..., None]).sum(1)
            value[:, 1:2] *= sign.float()
            total = total + value
        total[:, 2].clamp_(min=0)
        out[here[:, 0], here[:, 1], here[:, 2] + 1] = total
    return out


def cubic_weights(fraction: Tensor) -> Tensor:
    """Keys' weights (..., 4) of the grid points -1, 0, 1, 2 for a point at a fraction (...) from 0 to 1 behind 0; they sum to one."""
    return torch.stack(cubic(fraction), -1)
