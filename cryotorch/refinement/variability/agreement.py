"""What the components of two half sets have in common, and what they have in common with faults of the images."""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import fft_volume, shell_count, shell_sum

SHELLS = 3  # that an FSC is averaged over


def aligned(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Turns P, Q (k, k) of components (k, d, d, d) of two half sets after which each is like one of the other only, the most alike first.

    With a prior N(0, 1) of all coordinates components may be turned into each other: the singular vectors of their inner products
    M = a b^T = P S Q^T make P^T a and Q^T b agree one by one.
    """
    product = a.flatten(1).double() @ b.flatten(1).double().T
    left, _, right = torch.linalg.svd(product)
    return left, right.mT


def turned(turn: Tensor, components: Tensor) -> Tensor:
    """Components (k, d, d, d) turned into each other by P (k, k): P^T a."""
    return torch.einsum("jk,jzyx->kzyx", turn.to(components), components)


def component_fsc(a: Tensor, b: Tensor) -> Tensor:
    """FSC (k, s) of components (k, d, d, d) of two half sets, each over three shells; 1 at shell 0."""
    curves = []
    for first, second in zip(a, b, strict=True):
        u, v = fft_volume(first), fft_volume(second)
        sums = torch.stack([shell_sum((x * y.conj()).real, len(first)) for x, y in _pairs(u, v)])
        sums[:, 0] = 0  # the mean of all voxels is no detail
        cross, one, other = _smooth(sums)
        curves.append(cross / (one * other).sqrt().clamp_min(1e-300))
        curves[-1][0] = 1
    return torch.stack(curves)


def _pairs(u: Tensor, v: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    return (u, v), (u, u), (v, v)


def _smooth(sums: Tensor) -> Tensor:
    """Running sums (3, s) over shells."""
    reach = SHELLS // 2
    total = torch.nn.functional.pad(sums, (reach, reach))
    return total.unfold(1, SHELLS, 1).sum(2)


def shell_power(volume: Tensor) -> Tensor:
    """Mean power (s,) of the coefficients of a map (d, d, d) in each shell, as slices have them: |F|^2 / d^2."""
    box = len(volume)
    power = shell_sum(fft_volume(volume).abs().square(), box)
    return power / shell_count(box, volume.device) / box**2


def faults_of_images(mean: Tensor, mask: Tensor) -> Tensor:
    """Changes (8, d, d, d) of a mean map (d, d, d) in a mask that faults of the images make, with no part moving.

    Its contrast; its sharpness (the Laplacian); errors of the shift (the gradient); and of the rotation (r x gradient).
    """
    z, y, x = gradient(mean)
    line = torch.arange(len(mean), dtype=mean.dtype, device=mean.device) - len(mean) // 2
    rz, ry, rx = line[:, None, None], line[:, None], line
    laplacian = gradient(z)[0] + gradient(y)[1] + gradient(x)[2]
    turns = (ry * z - rz * y, rz * x - rx * z, rx * y - ry * x)
    return torch.stack([mean, laplacian, x, y, z, *turns]) * mask


def gradient(volume: Tensor) -> Tensor:
    """Derivatives (3, d, d, d) of a map (d, d, d) along z, y and x, per voxel; differences of voxels would lose its finest detail."""
    box, transform = len(volume), torch.fft.rfftn(volume)
    full = torch.fft.fftfreq(box, 1 / box, device=volume.device)
    half = torch.arange(box // 2 + 1.0, device=volume.device)
    if box % 2 == 0:  # where the sign of k is not known
        full[box // 2] = half[-1] = 0
    lines = (full[:, None, None], full[:, None], half)
    turn = 2j * torch.pi / box
    return torch.stack([torch.fft.irfftn(turn * k * transform, s=volume.shape) for k in lines])


def explained(components: Tensor, modes: Tensor) -> Tensor:
    """Part (k,) of the power of components (k, d, d, d) that combinations of modes (m, d, d, d) have."""
    rows = modes.flatten(1).double()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
    basis, _ = torch.linalg.qr(rows.T)
    values = components.flatten(1).double()
    power = values.square().sum(1).clamp_min(1e-300)
    return (values @ basis).square().sum(1) / power


def principal(components: Tensor) -> tuple[Tensor, Tensor]:
    """Components (k, d, d, d) turned into orthogonal ones, the largest first, and their variances (k,): the squared norms.

    The largest voxel of each is positive.
    """
    values = components.flatten(1).double()
    variance, turn = torch.linalg.eigh(values @ values.T)
    made = turned(turn.flip(1), components)
    flat = made.flatten(1)
    largest = flat.gather(1, flat.abs().argmax(1, keepdim=True))
    return made * torch.where(largest < 0, -1.0, 1.0)[:, :, None, None], variance.flip(0).clamp_min(
        0
    )
