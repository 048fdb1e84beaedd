"""Where a map lies in its box, which way round, and on which grey scale: nothing here changes its shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad as zero_pad


def crop_or_pad(volume: Tensor, box: int, fill: float = 0.0) -> Tensor:
    """A volume (*b, d, d, d) in a smaller or larger box, pixel d // 2 on pixel box // 2, new voxels ``fill``.

    Odd and even boxes mix; padding and cropping back is the identity.

    Raises ValueError for a box below 1.
    """
    if box < 1:
        raise ValueError(f"A box needs at least one voxel, got {box}.")
    before = box // 2 - volume.shape[-1] // 2
    after = box - volume.shape[-1] - before
    # negative numbers crop
    return zero_pad(volume, [before, after] * 3, value=fill).contiguous()


def shift_volume(volume: Tensor, shift_px: Tensor) -> Tensor:
    """A volume (d, d, d) moved by ``shift_px`` (3,) pixels along (x, y, z): what lay at x comes to lie at x + shift.

    Whole pixels are copied, zeros follow in from the border. The rest r, at most half a pixel, is the Fourier
    phase exp(-2 pi i k r / d), so smooth maps move without a loss; k = d/2 of an even box, whose sign is
    unknown, takes its real part.
    """
    whole = shift_px.double().round()
    rest = shift_px.double() - whole
    for dim, step in zip((-1, -2, -3), whole.long().tolist()):
        volume = _move(volume, step, dim)
    if not bool(rest.abs().max() > 1e-6):
        return volume
    box = volume.shape[-1]
    x, y, z = (_phase(box, float(r), volume) for r in rest)
    dims = (-3, -2, -1)
    transform = torch.fft.rfftn(volume, dim=dims) * z[:, None, None] * y[:, None]
    transform *= x[: box // 2 + 1]
    return torch.fft.irfftn(transform, s=volume.shape[-3:], dim=dims)


def _move(volume: Tensor, step: int, dim: int) -> Tensor:
    size = volume.shape[dim]
    moved, kept = torch.zeros_like(volume), size - min(abs(step), size)
    target, source = max(step, 0), max(-step, 0)
    if kept:
        moved.narrow(dim, target, kept).copy_(volume.narrow(dim, source, kept))
    return moved


def _phase(box: int, shift: float, like: Tensor) -> Tensor:
    turn = -2 * torch.pi * shift * torch.fft.fftfreq(box, dtype=torch.float64)
    phase = torch.polar(torch.ones_like(turn), turn)
    if box % 2 == 0:
        phase[box // 2] = math.cos(math.pi * shift)
    return phase.to(
        like.device, torch.complex128 if like.dtype == torch.float64 else torch.complex64
    )


def flip_hand(volume: Tensor) -> Tensor:
    """The other hand of a volume (*b, d, d, d): v(-x), the inversion through pixel d // 2.

    Inversion commutes with every rotation, so symmetry axes stay where they are in every point group; a mirror
    plane would move those of T, I3 and I4. It is the mirror image z -> -z turned by 180 degrees about z.
    Planes of an even box that have no counterpart (index 0, at -d/2) are their own.
    """
    dims = (-3, -2, -1)
    flipped = volume.flip(dims)
    return flipped.roll((1, 1, 1), dims) if volume.shape[-1] % 2 == 0 else flipped


def normalize(volume: Tensor) -> Tensor:
    """A volume (d, d, d) with mean 0 and standard deviation 1 over all voxels; ValueError where it is blank."""
    mean, deviation = volume.double().mean(), volume.double().std(correction=0)
    if not float(deviation) > 0:
        raise ValueError("A blank map cannot be normalised: all its voxels are equal.")
    return ((volume - mean) / deviation).to(volume)


def centre_of_mass(volume: Tensor) -> Tensor:
    """(3,) float64: the mean position (x, y, z) in voxels from the corner, weighted by a volume (d, d, d) >= 0.

    The corner voxel is 0, the origin d // 2. ValueError where nothing has weight.
    """
    weight = volume.double()
    total = weight.sum()
    if not float(total) > 0:
        raise ValueError("A centre of mass needs density above zero.")
    line = torch.arange(volume.shape[-1], dtype=torch.float64, device=volume.device)
    sums = [weight.sum(dims) for dims in ((0, 1), (0, 2), (1, 2))]
    return torch.stack([(line * s).sum() / total for s in sums]).cpu()
