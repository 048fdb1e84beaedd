"""How much louder the noise of optics groups is than it was assumed to be, by what is left of the images."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.scores import Observation

LEAST_NOISE = 1e-3  # of the noise before: what residuals may bring it down to in a pass


def noise_power(images: Observation, residual: Tensor, optics_group: Tensor, groups: int) -> Tensor:
    """Sums (groups, m) over images of residual (n, m) over assumed power, of the most probable poses; optics_group (n,)."""
    relative = (residual * images.precision[:, : residual.shape[1]]).double()
    total = relative.new_zeros(groups, residual.shape[1])
    return total.index_add_(0, optics_group, relative)


def noise_factors(power: Tensor, count: Tensor, box: int) -> Tensor:
    """How much larger the noise of each optics group and shell is than assumed, (groups, d // 2 + 1): 1 where nothing is known.

    power (groups, m): ``noise_power`` of all images, count (groups,) of them.
    """
    shell = half_plane(box, power.device).shell[: power.shape[1]]
    sums = power.new_zeros(len(power), box // 2 + 1).index_add_(1, shell, power)
    of_shell = torch.bincount(shell, minlength=sums.shape[1])
    number = (count[:, None] * of_shell).clamp_min(1)
    factor = (sums / number).clamp_min(LEAST_NOISE)
    return torch.where((count[:, None] > 0) & (of_shell > 0), factor, 1.0).float()


def with_noise(images: Observation, factor: Tensor, optics_group: Tensor) -> Observation:
    """The images with their noise multiplied by a factor (groups, d // 2 + 1)."""
    m = images.precision.shape[1]
    shell = half_plane(images.box, factor.device).shell[:m]
    return replace(images, precision=images.precision / factor[optics_group][:, shell])
