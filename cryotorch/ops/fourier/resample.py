"""Maps and images on another grid: other pixel size and box, same values at the same places."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def resample_volume(
    volume: Tensor,
    pixel_size: float,
    new_box: int,
    new_pixel_size: float,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Tensor:
    """A volume (d, d, d) sampled on a box of another pixel size, values kept; its origin comes to lie at ``shift``
    (x, y, z), in the unit of the pixel sizes, from the new one.

    Band-limited interpolation, one axis after the other: v(x) = sum_i v_i D(x - x_i), D the periodic sinc
    D(t) = (1 / d) sum_k cos(2 pi k t / d) over the |k| below both Nyquist frequencies. Zero outside the old box.
    At the old pixel size k = d / 2 takes part, so that a crop, a pad and a shift by whole voxels copy values.
    """
    for step in shift:  # each pass resamples the last axis, x first, and moves it to the front
        matrix = _interpolation(volume, pixel_size, new_box, new_pixel_size, step)
        volume = torch.movedim(volume @ matrix.T, -1, 0)
    return volume.contiguous()


def resample_images(
    images: Tensor, pixel_size: float, new_box: int, new_pixel_size: float
) -> Tensor:
    """Images (*b, d, d) on a box of another pixel size, as ``resample_volume`` does it: values kept."""
    matrix = _interpolation(images, pixel_size, new_box, new_pixel_size)
    return matrix @ images @ matrix.T


def stretched(images: Tensor, matrix: Tensor) -> Tensor:
    """Images (n, d, d) whose spectra at k are those of the given ones at A k, A a matrix (2, 2): v'(x) = v(A^-T x) / det A.

    Cubic between the samples of twice as many pixels; zero where that lies outside the box.
    """
    box = images.shape[-1]
    fine = resample_images(images, 1.0, 2 * box, 0.5)[:, None]
    line = torch.arange(box, dtype=torch.float64) - box // 2
    x = torch.stack([line.expand(box, box), line[:, None].expand(box, box)], -1)
    index = 2 * (x @ torch.linalg.inv(matrix.double().cpu())) + box
    grid = (2 * index / (2 * box - 1) - 1).to(images).expand(len(images), -1, -1, -1)
    values = grid_sample(fine, grid, mode="bicubic", padding_mode="zeros", align_corners=True)
    return values[:, 0] / float(torch.linalg.det(matrix.double()))


def _interpolation(
    values: Tensor, pixel_size: float, new_box: int, new_pixel_size: float, shift: float = 0.0
) -> Tensor:
    """(new, old) weights of the old samples along an axis."""
    old_box = values.shape[-1]
    old = torch.arange(old_box, dtype=torch.float64) - old_box // 2
    ratio = new_pixel_size / pixel_size
    new = (torch.arange(new_box, dtype=torch.float64) - new_box // 2) * ratio - shift / pixel_size
    limit = old_box / 2 / max(1.0, ratio)
    k = torch.arange(old_box // 2 + 1, dtype=torch.float64)
    weight = torch.where(k < limit, 2.0, 0.0) / old_box
    weight[0] = 1 / old_box
    if ratio == 1 and old_box % 2 == 0:
        weight[-1] = 1 / old_box
    turn = 2 * torch.pi * k[:, None] / old_box
    # cos(k (x - x_i)) = cos kx cos kx_i + sin kx sin kx_i: (new, k) x (k, old)
    matrix = (turn * new).cos().T * weight @ (turn * old).cos()
    matrix += (turn * new).sin().T * weight @ (turn * old).sin()
    matrix[(new < old[0] - 0.5) | (new > old[-1] + 0.5)] = 0
    return matrix.to(values)
