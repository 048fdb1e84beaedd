"""Density as a sum of isotropic Gaussians: what atoms and pseudo-atoms turn into."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import resize_volume

# Voxels handled at once: a few tens of MB of indices and values.
VOXELS_AT_ONCE = 2_000_000
# Standard deviations kept: exp(-4.5^2 / 2) = 4e-5 of the peak.
REACH_SIGMAS = 4.5
# Smallest sigma on the working grid, in its voxels: at that grid's Nyquist frequency 2 % of the amplitude is left.
MIN_SIGMA_VOXELS = 0.9


def bfactor_to_sigma(bfactor: Tensor) -> Tensor:
    """Standard deviation in Å of the Gaussian whose transform is exp(-B k^2 / 4): sigma^2 = B / (8 pi^2), B in Å², any shape."""
    return (bfactor / (8 * math.pi**2)).sqrt()


def gaussian_density(
    position: Tensor, weight: Tensor, sigma: Tensor, box: int, pixel_size: float
) -> Tensor:
    """The sum of Gaussians sampled on a box, band-limited to its Nyquist frequency.

    rho(x) = sum_j weight_j (2 pi sigma_j^2)^(-3/2) exp(-|x - position_j|^2 / (2 sigma_j^2))

    Each Gaussian is the outer product of three lines of samples around its atom, added into a grid fine enough
    for the narrowest of them, which is then cropped in Fourier space: no aliasing. Parts outside the box are
    left out.

    Shapes: position (n, 3) Å as (x, y, z) from the box's origin; weight (n,); sigma (n,) Å, at least an eighth
    of a pixel. Returns (d, d, d) float32 in units of weight per Å^3.

    Raises ValueError without atoms, and where a Gaussian is narrower than an eighth of a pixel.
    """
    if len(position) == 0:
        raise ValueError("A density needs at least one atom.")
    narrow, wide = float(sigma.min()), float(sigma.max())
    if not narrow >= pixel_size / 8:
        raise ValueError(
            f"The narrowest Gaussian has sigma = {narrow:g} Å, less than an eighth of the pixel of "
            f"{pixel_size:g} Å: broaden it."
        )
    factor = max(1, math.ceil(MIN_SIGMA_VOXELS * pixel_size / narrow))
    fine, step = box * factor, pixel_size / factor
    grid = torch.zeros(fine**3, dtype=torch.float32, device=position.device)
    half = math.ceil(REACH_SIGMAS * wide / step)
    size = max(1, VOXELS_AT_ONCE // (2 * half + 1) ** 3)
    order = sigma.argsort(stable=True)  # so that narrow Gaussians get small windows
    for part in order.split(size):
        _add_gaussians_(grid, fine, position[part] / step, weight[part], sigma[part] / step)
    density = grid.view(fine, fine, fine).div_(step**3)
    return resize_volume(density, box)


def _add_gaussians_(grid: Tensor, box: int, centre: Tensor, weight: Tensor, sigma: Tensor) -> None:
    """Add Gaussians of unit-voxel coordinates into the flat grid (box^3,)."""
    half = math.ceil(REACH_SIGMAS * float(sigma.max()))
    offset = torch.arange(-half, half + 1, device=grid.device)
    nearest = centre.round()
    line = offset - (centre - nearest)[..., None]
    line = torch.exp(-0.5 * (line / sigma[:, None, None]) ** 2)  # (c, 3, w)
    line = line / (math.sqrt(2 * math.pi) * sigma[:, None, None])
    index = nearest.long()[..., None] + offset + box // 2
    line = torch.where((index >= 0) & (index < box), line, 0.0)
    index = index.clamp(0, box - 1)
    x, y, z = line.float().unbind(1)
    z = z * weight[:, None].float()
    values = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
    ix, iy, iz = index.unbind(1)
    place = (iz[:, :, None, None] * box + iy[:, None, :, None]) * box + ix[:, None, None, :]
    grid.index_add_(0, place.flatten(), values.flatten())
