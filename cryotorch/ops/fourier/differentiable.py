"""The image model once more, in operations that autograd follows: for those who train through it.

The same numbers as ``image_model.project``, which the searches use, at about ten times their cost.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

from cryotorch.ops.fourier.slices import gridding_correction, slice_coordinates
from cryotorch.ops.fourier.transforms import half_plane

PADDING = 2  # as in ``slices.projector``


def slices(volume: Tensor, rotation: Tensor, frequency: Tensor) -> Tensor:
    """Central slices (b, m), complex, of a volume (d, d, d) at rotations (b, 3, 3) and frequencies (m, 2) in Fourier pixels, |k| < d / 2.

    Differentiable by volume and rotation, where no point falls on the lattice that is interpolated between.
    """
    box = volume.shape[-1]
    padded = PADDING * box
    before = padded // 2 - box // 2
    even = volume / gridding_correction(box, padded, volume.device).to(volume)
    wide = torch.fft.ifftshift(pad(even, [before, padded - box - before] * 3), dim=(0, 1, 2))
    transform = (torch.fft.rfftn(wide) / box).flatten()
    point = slice_coordinates(rotation, frequency.to(rotation)) * PADDING
    mirrored = point[:, 0] < 0  # there the value is the conjugate of the one opposite
    point = torch.where(mirrored[:, None], -point, point)
    lower = point.detach().floor()
    x, y, z = (point - lower).unbind(1)
    column, row, section = lower.long().unbind(1)
    value = torch.zeros_like(x, dtype=transform.dtype)
    for dz, dy, dx in product((0, 1), repeat=3):
        weight = (z if dz else 1 - z) * (y if dy else 1 - y) * (x if dx else 1 - x)
        line = ((section + dz) % padded) * padded + (row + dy) % padded
        value = value + weight * transform[line * (padded // 2 + 1) + column + dx]
    return torch.where(mirrored, value.conj(), value)


def project(
    volume: Tensor,
    rotation: Tensor,
    shift_px: Tensor,
    ctf: Tensor,
    scale: Tensor | None = None,
) -> Tensor:
    """Packed spectra (b, m) of the images of a volume: as ``image_model.project``, which see, and differentiable by every argument."""
    box = volume.shape[-1]
    frequency = half_plane(box, volume.device).frequency.to(volume)
    turn = (2 * torch.pi / box) * (shift_px.to(volume) @ frequency.T)
    spectrum = slices(volume, rotation.to(volume), frequency) * ctf
    spectrum = spectrum * torch.polar(torch.ones_like(turn), turn)
    return spectrum if scale is None else spectrum * scale[:, None]
