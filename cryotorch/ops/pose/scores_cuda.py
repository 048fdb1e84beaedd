"""``scores.pose_terms`` as one function of real tensors that torch.compile turns into one loop, without temporaries.

For CUDA devices; on CPUs ``kernels`` is faster. Compilation takes one to two minutes and is kept in torch's cache on disk.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

PAIRS = [(i, j) for i in range(7) for j in range(i, 7)]
PLACE = [PAIRS.index((min(i, j), max(i, j))) for i in range(7) for j in range(7)]


def pose_gram_cuda(
    table: Tensor,
    reach: int,
    padding: int,
    box: int,
    frequency: Tensor,
    spectrum: Tensor,
    gain: Tensor,
    precision: Tensor,
    image: Tensor,
    rotation: Tensor,
    shift_px: Tensor,
    magnification: Tensor | None = None,
) -> Tensor:
    """The 28 different inner products of ``scores.PoseTerms.gram``, (p, 28), in the order of ``PAIRS``.

    table, reach, padding: of a ``Projector``; frequency (m, 2); spectrum (b, m, 2); gain, precision (b, m); image (p,);
    rotation (p, 3, 3); shift_px (p, 2); magnification (b, 2, 2) or None.
    """
    kx, ky = frequency[:, 0], frequency[:, 1]
    if magnification is None:
        qx, qy, turned = kx, ky, rotation[:, :2]
    else:
        stretch = magnification[image]
        qx = stretch[:, 0, 0, None] * kx + stretch[:, 0, 1, None] * ky
        qy = stretch[:, 1, 0, None] * kx + stretch[:, 1, 1, None] * ky
        turned = stretch.mT @ rotation[:, :2]
    point = (turned.transpose(1, 2) @ frequency.T) * padding
    sign = torch.where(point[:, 0] < 0, -1.0, 1.0)
    point = point * sign[:, None]
    floor = point.floor()
    fx, fy, fz = (point - floor).unbind(1)
    lower = floor.clamp(-reach, reach - 1).long()
    columns, side = reach + 2, 2 * reach + 1
    index = ((lower[:, 2] + reach) * side + lower[:, 1] + reach) * columns + lower[:, 0]
    corner = [index, index + columns, index + side * columns, index + (side + 1) * columns]

    def interpolate(part: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        left = [table[c, part] for c in corner]
        dx = [table[c + 1, part] - v for c, v in zip(corner, left, strict=True)]
        line = [v + fx * d for v, d in zip(left, dx, strict=True)]
        dy0, dy1 = line[1] - line[0], line[3] - line[2]
        low, high = line[0] + fy * dy0, line[2] + fy * dy1
        dx0, dx1 = dx[0] + fy * (dx[1] - dx[0]), dx[2] + fy * (dx[3] - dx[2])
        dz = high - low
        return low + fz * dz, dx0 + fz * (dx1 - dx0), dy0 + fz * (dy1 - dy0), dz

    turn = rotation * padding

    def by_rotation(gradient: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        g = [sum(turn[:, i, j, None] * gradient[j] for j in range(3)) for i in range(3)]
        return -qy * g[2], qx * g[2], qy * g[0] - qx * g[1]

    re, *re_gradient = interpolate(0)
    im, *im_gradient = interpolate(1)
    im = im * sign
    dp_re, dp_im = (
        by_rotation(tuple(g * sign for g in re_gradient)),
        by_rotation(tuple(im_gradient)),
    )
    root = precision[image].sqrt()
    weight = root * gain[image]
    phase = (2 * torch.pi / box) * (shift_px @ frequency.T)
    cos, sin = phase.cos(), phase.sin()
    y = spectrum[image]
    y_re, y_im = y[..., 0] * root, y[..., 1] * root
    k = 2 * torch.pi / box
    vectors = [(y_re * cos + y_im * sin, y_im * cos - y_re * sin), (re * weight, im * weight)]
    vectors += [(a * weight, b * weight) for a, b in zip(dp_re, dp_im, strict=True)]
    vectors += [(-im * weight * q * k, re * weight * q * k) for q in (kx, ky)]
    sums = [
        (vectors[i][0] * vectors[j][0] + vectors[i][1] * vectors[j][1]).sum(-1) for i, j in PAIRS
    ]
    return torch.stack(sums, -1)


@lru_cache(maxsize=1)
def compiled_products():
    """``pose_gram_cuda`` compiled for all shapes; the plain one where compiling fails, for want of a C++ compiler say."""
    compiled, working = torch.compile(pose_gram_cuda, dynamic=True), [True]

    def call(*arguments: Any) -> Tensor:
        if working[0]:
            try:
                return compiled(*arguments)
            except Exception as error:  # compilers fail in many ways, and none is worth the run
                working[0] = False
                log = logging.getLogger("cryotorch")
                log.warning("compile: failed (%s), going on without", type(error).__name__)
        return pose_gram_cuda(*arguments)

    return call


def square(sums: Tensor) -> Tensor:
    """The symmetric matrices (p, 7, 7) of (p, 28) products."""
    return sums[:, PLACE].unflatten(1, (7, 7))
