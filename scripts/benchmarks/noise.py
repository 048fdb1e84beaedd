"""Maps of white noise in masks, and the FSC of their pairs: what measures the noise band."""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.ops.fourier.reconstruct import Sums
from cryotorch.ops.fourier.symmetrise import symmetrise
from cryotorch.ops.fourier.transforms import ifft_volume, shell_sum
from cryotorch.ops.masks.soft import soft_mask, soft_sphere


def white(box: int, group: Tensor, count: int) -> Tensor:
    """White noise (n, d, d, d), made symmetric under a group (g, 3, 3) as reconstructions are."""
    draw = torch.Generator().manual_seed(box)
    weight, maps = torch.ones(box, box, box // 2 + 1), []
    for _ in range(count):
        transform = torch.fft.rfftn(torch.randn(box, box, box, generator=draw))
        sums = symmetrise(Sums(transform, weight, box, 1, box / 2), group)
        maps.append(ifft_volume(sums.numerator, box))
    return torch.stack(maps).float()


def masks(box: int) -> dict[str, Tensor]:
    """None at all, spheres, and a tight one around a brick, each (d, d, d)."""
    brick = torch.zeros(box, box, box, dtype=torch.bool)
    c, r = box // 2, box // 6
    brick[c - r : c + r, c - r // 2 : c + r // 2, c - r // 3 : c + r // 3 + 1] = True
    return {
        "none": torch.ones(box, box, box),
        "spherical": soft_sphere(box, 0.425 * box, 0.075 * box),
        "small sphere": soft_sphere(box, 0.225 * box, 0.075 * box),
        "tight": soft_mask(brick, 1, 0.1 * box),
    }


def fsc_of_pairs(maps: Tensor, mask: Tensor) -> Tensor:
    """The FSC (p, d // 2 + 1) of all pairs of masked maps (n, d, d, d)."""
    spectra = [torch.fft.rfftn(v * mask) for v in maps]
    box, sums = len(mask), {}
    for i, a in enumerate(spectra):
        for j, b in enumerate(spectra[: i + 1]):
            sums[i, j] = shell_sum((a * b.conj()).real, box)
    pairs = [c / (sums[i, i] * sums[j, j]).sqrt() for (i, j), c in sums.items() if i != j]
    return torch.stack(pairs).double()
