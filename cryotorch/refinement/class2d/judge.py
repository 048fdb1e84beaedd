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

# Fourier pixels beyond the shared limit: the window of three shells and interpolation carry what noise was aligned to so far.
NEXT_TO_SHARED = 4.0
LEAST_PARTICLES = 30.0  # posterior-weighted, that a resolution is claimed for
ERRORS = 3.0  # standard errors that a shell must be clear of
# A class that is suggested: part of all particles, distance of its middle from that of the box as a part of the mask's radius,
# variance outside of the mask over that inside, and resolution over the finest of all classes.
LEAST_SHARE, MOST_OFFSET, MOST_EDGE, MOST_COARSER = 0.0035, 0.25, 0.15, 2.0


@dataclass(frozen=True)
class Judged:
    """Class by class (k,), on the CPU.

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
    """The resolution and the junk features of every class.

    Classes are suggested where any resolves something: those whose half sets agree half as far as those of the best, at least.
    """
    averages, pixel = found.averages, settings.grid.pixel_size
    mask = mask_of(settings, averages.merged.device)
    size = settings.grid.box * pixel
    shell = agreeing_shell(averages.curve, averages.support, settings)
    clear = shell >= settings.shared_limit + NEXT_TO_SHARED
    clear &= found.mass >= LEAST_PARTICLES
    resolution = torch.where(clear, size / shell.clamp_min(1), torch.inf)
    offset = centres(averages.merged, mask).norm(dim=1).cpu() * pixel
    edge = edge_variance(averages.merged, mask).cpu()
    good = (found.share >= LEAST_SHARE) & (MOST_COARSER * shell >= shell.max()) & clear.any()
    good &= (edge <= MOST_EDGE) & (offset <= MOST_OFFSET * settings.radius * pixel)
    return Judged(resolution, offset, edge, good)


def agreeing_shell(curve: Tensor, support: Tensor, settings: ClassSettings) -> Tensor:
    """The last shell (n,) before an FRC (n, s) falls below 0.143 or what noise may reach; what is shared agrees anyway.

    Three shells hold v = 6 pi s a independent numbers of noise that covers a part a of the box, ``support`` (n,), see
    ``ops.resolution.significance``.
    """
    curve, s = curve.cpu(), torch.arange(curve.shape[1], dtype=torch.float64)
    numbers = 6 * math.pi * s * support.cpu().double()[:, None]
    good = curve > noise_band(numbers, ERRORS).clamp_min(THRESHOLD)
    good[:, : math.ceil(settings.shared_limit) + 1] = True
    good[:, math.floor(settings.last_limit) + 1 :] = False
    return good.long().cumprod(1).sum(1) - 1


def edge_variance(images: Tensor, mask: Tensor) -> Tensor:
    """Mean square (n,) of images (n, d, d) outside of a mask, within the circle of the box, over that inside."""
    outside = (1 - mask) * soft_circle(len(mask), len(mask) / 2 - 1, 1, mask.device)
    power = images.square()
    inside = (power * mask).sum((1, 2)) / mask.sum()
    return (power * outside).sum((1, 2)) / outside.sum().clamp_min(1) / inside.clamp_min(1e-30)
