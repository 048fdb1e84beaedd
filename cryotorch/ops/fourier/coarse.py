"""The coarse part of sums and maps on small grids, where comparing many frames costs little."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.reconstruct import Sums


def coarse_sums(sums: Sums, box: int) -> Sums:
    """A copy of the sums in a smaller even box over the same edge, or all of them: coefficients below its Nyquist shell, as they are."""
    if box >= sums.box:
        return replace(sums, numerator=sums.numerator.clone(), weight=sums.weight.clone())
    padded, reach = sums.padding * box, sums.padding * box // 2
    lines = torch.fft.fftfreq(padded, 1 / padded, device=sums.weight.device).long()

    def cut(values: Tensor) -> Tensor:
        return values[..., : reach + 1][lines][:, lines]

    limit = min(sums.limit, box / 2)
    return Sums(cut(sums.numerator), cut(sums.weight), box, sums.padding, limit)
