"""What class averages show: the resolution that may be claimed, and signs of junk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.planes import planes, reach_of, turned, turns
from cryotorch.ops.fourier.transforms import half_plane, pack
from cryotorch.ops.masks.soft import soft_circle
from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.ops.resolution.significance import noise_band
from cryotorch.refinement.class2d.averages import Averages, centres, mask_of
from cryotorch.refinement.class2d.classify import Classified
from cryotorch.refinement.class2d.settings import ClassSettings

# Fourier pixels beyond the shared limit: the window of three shells and interpolation carry what noise was aligned to so far.
NEXT_TO_SHARED = 4.0
LEAST_PARTICLES = 30.0  # posterior-weighted, that a resolution is claimed for
TURNS = 36  # in half a circle
ERRORS = 3.0  # standard errors that a shell must be clear of
# A class that is suggested: part of all particles, distance of its middle from that of the box as a part of the mask's radius,
# variance outside of the mask over that inside, and resolution over the finest of all classes.
LEAST_SHARE, MOST_OFFSET, MOST_EDGE, MOST_COARSER = 0.0035, 0.25, 0.15, 2.5


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

    Classes are suggested where any resolves something: those whose half sets agree 0.4 times as far as those of the best, at least.
    """
    averages, pixel = found.averages, settings.grid.pixel_size
    mask = mask_of(settings, averages.merged.device)
    size = settings.grid.box * pixel
    shell = agreeing_shell(averages.curve, noise_numbers(averages, settings), settings)
    clear = shell >= settings.shared_limit + NEXT_TO_SHARED
    clear &= found.mass >= LEAST_PARTICLES
    resolution = torch.where(clear, size / shell.clamp_min(1), torch.inf)
    offset = centres(averages.merged, mask).norm(dim=1).cpu() * pixel
    edge = edge_variance(averages.merged, mask).cpu()
    good = (found.share >= LEAST_SHARE) & (MOST_COARSER * shell >= shell.max()) & clear.any()
    good &= (edge <= MOST_EDGE) & (offset <= MOST_OFFSET * settings.radius * pixel)
    return Judged(resolution, offset, edge, good)


def agreeing_shell(curve: Tensor, numbers: Tensor, settings: ClassSettings) -> Tensor:
    """The last shell (n,) before an FRC (n, s) falls below 0.143 or what noise of so many numbers (n, s) may reach; what is shared agrees anyway."""
    good = curve.cpu() > noise_band(numbers, ERRORS).clamp_min(THRESHOLD)
    good[:, : math.ceil(settings.shared_limit) + 1] = True
    good[:, math.floor(settings.last_limit) + 1 :] = False
    return good.long().cumprod(1).sum(1) - 1


def noise_numbers(averages: Averages, settings: ClassSettings) -> Tensor:
    """Independent real numbers (n, s) float64 of the noise in three shells of each average, on the CPU.

    White noise in a part a of the box has 6 pi s a. Where images have no angle the averages are round, and a shell has no more numbers
    than 1 / mean r^2 tells, r the correlation of the shell of the half sets' difference with itself turned, over all turns; three
    shells hold two such independent of each other.
    """
    box = settings.grid.box
    s = torch.arange(averages.curve.shape[1], dtype=torch.float64)
    white = 6 * math.pi * s * averages.support.cpu().double()[:, None]
    difference = (averages.halves[0] - averages.halves[1]).cpu()
    plane, reach = half_plane(box), reach_of(settings.last_limit, box)
    count = plane.count(settings.last_limit)
    at = turns((torch.arange(TURNS) + 0.5) * (math.pi / TURNS), count, box, reach)
    still, turning = pack(difference)[:, None, :count], turned(planes(difference, reach), at)
    even, odd = still.real * turning.real, still.imag * turning.imag
    values = (even + odd, even - odd, still.abs().square(), turning.abs().square())
    empty = torch.zeros(len(difference), TURNS, len(s))
    upright, upside_down, first, second = (
        empty.index_add(2, plane.shell[:count], v.expand(-1, TURNS, -1)) for v in values
    )
    power = (first * second).clamp_min(1e-30)
    mean = ((upright.square() + upside_down.square()) / power).mean(1).double() / 2
    return torch.minimum(white, 2 / mean.clamp_min(1e-9))


def edge_variance(images: Tensor, mask: Tensor) -> Tensor:
    """Mean square (n,) of images (n, d, d) outside of a mask, within the circle of the box, over that inside."""
    outside = (1 - mask) * soft_circle(len(mask), len(mask) / 2 - 1, 1, mask.device)
    power = images.square()
    inside = (power * mask).sum((1, 2)) / mask.sum()
    return (power * outside).sum((1, 2)) / outside.sum().clamp_min(1) / inside.clamp_min(1e-30)
