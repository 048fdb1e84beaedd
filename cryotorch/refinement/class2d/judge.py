"""What class averages show: the resolution that may be claimed, and signs of junk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.masks.soft import soft_circle
from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.ops.resolution.significance import noise_band
from cryotorch.refinement.class2d.averages import centres, mask_of
from cryotorch.refinement.class2d.classify import Classified
from cryotorch.refinement.class2d.settings import ClassSettings

# Fourier pixels beyond the shared limit: what noise was aligned to leaks on through masks and windows, and poses carry it further.
NEXT_TO_SHARED = 6.0
ERRORS = 4.0  # standard errors that a shell must be clear of: there are many classes
# A class that is suggested: part of all particles, distance of its middle from that of the box as a part of the mask's radius,
# variance outside of the mask over that inside, and resolution over the finest of all classes.
LEAST_SHARE, MOST_OFFSET, MOST_EDGE, MOST_COARSER = 0.0035, 0.25, 0.15, 2.0


@dataclass(frozen=True)
class Judged:
    """Class by class (K,), on the CPU.

    Attributes:
        resolution: Å; infinite where the half sets agree no further than what both were aligned to.
        offset: distance of the centre of mass from the middle of the box, Å.
        edge: variance of the average outside of the mask over that inside.
        suggested: bool, whether the class looks like particles.
    """

    resolution: Tensor
    offset: Tensor
    edge: Tensor
    suggested: Tensor


def judge(found: Classified, settings: ClassSettings) -> Judged:
    """The resolution and the junk features of every class."""
    averages, pixel = found.averages, settings.grid.pixel_size
    mask = mask_of(settings, averages.merged.device)
    size = settings.grid.box * pixel
    shell = resolved_shell(averages.curve, mask, settings)
    resolution = torch.where(shell > 0, size / shell.clamp_min(1), torch.inf)
    offset = centres(averages.merged, mask).norm(dim=1).cpu() * pixel
    edge = edge_variance(averages.merged, mask).cpu()
    finest = float(resolution.min())
    good = (found.share >= LEAST_SHARE) & (resolution <= MOST_COARSER * finest)
    good &= resolution.isfinite() & (edge <= MOST_EDGE)
    good &= offset <= MOST_OFFSET * settings.radius * pixel
    return Judged(resolution, offset, edge, good)


def resolved_shell(curve: Tensor, mask: Tensor, settings: ClassSettings) -> Tensor:
    """The last shell (n,) before an FRC (n, s) falls below 0.143 or what noise may reach; 0 where that is not clear of the shared limit.

    Three shells hold v = 6 pi s (sum m^2)^2 / (d^2 sum m^4) independent numbers under a mask m, see ``ops.resolution.significance``.
    """
    curve = curve.cpu()
    s = torch.arange(curve.shape[1], dtype=torch.float64)
    m2 = mask.double().square().cpu()
    inside = float(m2.sum() ** 2 / (m2.numel() * m2.square().sum()))
    least = noise_band(6 * math.pi * s * inside, ERRORS).clamp_min(THRESHOLD)
    good = curve > least
    good[:, : math.ceil(settings.shared_limit) + 1] = True
    good[:, math.floor(settings.last_limit) + 1 :] = False
    last = good.long().cumprod(1).sum(1) - 1
    clear = last >= settings.shared_limit + NEXT_TO_SHARED
    return torch.where(clear, last, 0)


def edge_variance(images: Tensor, mask: Tensor) -> Tensor:
    """Mean square (n,) of images (n, d, d) outside of a mask, within the circle of the box, over that inside."""
    outside = (1 - mask) * soft_circle(len(mask), len(mask) / 2 - 1, 1, mask.device)
    power = images.square()
    inside = (power * mask).sum((1, 2)) / mask.sum()
    return (power * outside).sum((1, 2)) / outside.sum().clamp_min(1) / inside.clamp_min(1e-30)
