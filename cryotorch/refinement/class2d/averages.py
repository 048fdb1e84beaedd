"""Class averages from the sums of their images: filtered by what the two half sets share, masked, kept in the middle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.planes import images_of, moved, radius_of
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack
from cryotorch.ops.masks.soft import soft_circle
from cryotorch.refinement.ab_initio.class_maps import CENTRE_ABOVE
from cryotorch.refinement.class2d.settings import ClassSettings

EDGE = 0.2  # of the radius, over which the mask falls to zero
LEAST_FRC, MOST_FRC = 1e-3, 0.999
LEAST_WEIGHT = 1e-6  # of the mean weight of all shells, below which a shell has no images


@dataclass
class Sums:
    """What the images of two half sets have been added up to, class by class; padded planes of c coefficients as in ``ops.fourier.planes``.

    Attributes:
        numerator: (2, k, c) complex64; weight: (2, k, c).
        mass: (2, k) posterior-weighted numbers of images.
    """

    numerator: Tensor
    weight: Tensor
    mass: Tensor

    @classmethod
    def empty(cls, n_classes: int, cells: int, device: torch.device) -> Sums:
        """Of no images."""
        zeros = torch.zeros(2, n_classes, cells, device=device)
        return cls(zeros.to(torch.complex64), zeros, torch.zeros(2, n_classes, device=device))

    def add_(self, other: Sums, decay: float = 1.0) -> None:
        """Add others, after a multiplication by ``decay``."""
        for mine, theirs in zip(self._all(), other._all(), strict=True):
            mine.mul_(decay).add_(theirs)

    def put_(self, place: int, one: Sums) -> None:
        """Exchange a class for the sums of ``one``."""
        for mine, theirs in zip(self._all(), one._all(), strict=True):
            mine[:, place] = theirs[:, 0]

    def taken(self, order: Tensor) -> Sums:
        """The classes in another order (k,)."""
        return Sums(*(values[:, order] for values in self._all()))

    def _all(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.numerator, self.weight, self.mass


@dataclass(frozen=True)
class Averages:
    """Class averages.

    Attributes:
        halves: (2, k, d, d) of the half sets, alike up to the shared limit, masked: what images are compared with.
        merged: (k, d, d) of all images, not masked; curve: (k, s) FRC of the half sets inside the mask, each over three shells.
        support: (k,) part of the box that the noise of the averages covers, inside the mask.
    """

    halves: Tensor
    merged: Tensor
    curve: Tensor
    support: Tensor


def solve(sums: Sums, settings: ClassSettings) -> Averages:
    """The averages of both half sets, numerator / (weight + prior), with a prior that leaves of each shell what they share.

    With F the FRC of the half sets and W the mean weight of the shell, the prior is W (1 - F) / F: (1 - F) / F is the power of noise over
    that of signal in an average of half the images.
    """
    box, device = settings.grid.box, sums.weight.device
    reach = math.isqrt(sums.weight.shape[-1]) // 2
    radius = radius_of(reach, device)
    shell = (radius + 0.5).long().clamp(max=box // 2)
    mean = _shell_mean(sums.weight, shell, box)
    mask = mask_of(settings, device)
    rough = sums.numerator / (sums.weight + mean[..., shell]).clamp_min(1e-30)
    own = radius > settings.shared_limit
    within = [flattened(images_of(half, box), mask) * mask for half in rough]
    beyond = [images_of(half * own, box) * mask for half in rough]
    curve = ring_correlation(*within)
    shells = torch.arange(curve.shape[1], device=device) > settings.shared_limit
    curve = torch.where(shells, ring_correlation(*beyond), curve)
    noise = (1 / curve.clamp(LEAST_FRC, MOST_FRC) - 1).float()
    whole = sums.weight.sum(0) + (0.5 * mean.sum(0) * noise)[..., shell]
    merged = sums.numerator.sum(0) / whole.clamp_min(1e-30)
    halves = sums.numerator / (sums.weight + (mean * noise)[..., shell]).clamp_min(1e-30)
    # what is shared must not leak through the mask into what is not: it would creep on from iteration to iteration
    packed = half_plane(box, device).radius > settings.shared_limit
    inside = flattened(images_of(merged * ~own, box), mask) * mask
    low, level = pack(inside) * ~packed, inside.mean((1, 2), keepdim=True)
    seen = [
        level + unpack(low + pack(images_of(half * own, box) * mask) * packed, box)
        for half in halves
    ]
    support = noise_support(within[0] - within[1])
    return Averages(torch.stack(seen), flattened(images_of(merged, box), mask), curve, support)


def _shell_mean(weight: Tensor, shell: Tensor, box: int) -> Tensor:
    """Mean weights (2, k, s) of the shells of padded planes (2, k, c)."""
    flat = weight.flatten(0, 1)
    total = flat.new_zeros(len(flat), box // 2 + 1).index_add_(1, shell, flat)
    mean = total / torch.bincount(shell, minlength=box // 2 + 1).clamp_min(1)
    return mean.unflatten(0, weight.shape[:2])


def mask_of(settings: ClassSettings, device: torch.device) -> Tensor:
    """The soft circle (d, d) of the mask."""
    edge = EDGE * settings.radius
    return soft_circle(settings.grid.box, settings.radius - edge, edge, device)


def flattened(images: Tensor, mask: Tensor) -> Tensor:
    """Images (n, d, d) with mean zero where the mask is zero or falls to it."""
    outside = (1 - mask) * soft_circle(len(mask), len(mask) / 2 - 1, 1, mask.device)
    mean = (images * outside).sum((1, 2)) / outside.sum().clamp_min(1)
    return images - mean[:, None, None]


def ring_correlation(first: Tensor, second: Tensor) -> Tensor:
    """FRC (n, s) float64 of images (n, d, d), each value over its shell and its two neighbours, which halves its error.

        FRC(s) = Re sum F1 F2* / sqrt( sum |F1|^2  sum |F2|^2 )       sums over shells s - 1 to s + 1

    Shell 0 is set to 1; shells without power are 0.
    """
    a, b = pack(first), pack(second)
    box = first.shape[-1]
    shell = half_plane(box, first.device).shell
    sums = []
    for values in ((a.conj() * b).real, a.abs().square(), b.abs().square()):
        total = torch.zeros(len(a), box // 2 + 3, dtype=torch.float64, device=a.device)
        total.index_add_(1, shell + 1, values.double())
        sums.append(total[:, :-2] + total[:, 1:-1] + total[:, 2:])
    cross, power = sums[0], sums[1] * sums[2]
    curve = torch.where(power > 0, cross / power.sqrt().clamp_min(1e-300), 0.0)
    curve[:, 0] = 1
    return curve


def noise_support(difference: Tensor) -> Tensor:
    """Part (n,) of the box that noise covers, (sum v)^2 / (d^2 sum v^2) with v the mean square of differences (n, d, d) at a radius.

    Aligned noise gathers where the average is dense, and few numbers correlate far by chance.
    """
    box = difference.shape[-1]
    line = (torch.arange(box, device=difference.device) - box // 2).square()
    ring = (line[:, None] + line).sqrt().round().long().flatten()
    count = torch.bincount(ring).double()
    power = difference.square().double().flatten(1)
    total = power.new_zeros(len(power), len(count)).index_add_(1, ring, power)
    v = total / count.clamp_min(1)
    return total.sum(1).square() / (box**2 * (v.square() * count).sum(1)).clamp_min(1e-300)


def centres(images: Tensor, mask: Tensor) -> Tensor:
    """Centre of mass (n, 2) of the density of images (n, d, d) above a fifth of the highest, in pixels from the middle, (x, y)."""
    inside = images * mask
    high = (inside - CENTRE_ABOVE * inside.amax((1, 2), keepdim=True)).clamp_min(0)
    line = torch.arange(images.shape[-1], device=images.device) - images.shape[-1] // 2
    total = high.sum((1, 2)).clamp_min(1e-30)
    return (
        torch.stack([(high * line).sum((1, 2)), (high * line[:, None]).sum((1, 2))], 1)
        / (total[:, None])
    )


def recentre_(sums: Sums, merged: Tensor, settings: ClassSettings) -> None:
    """Move the classes so that their averages (k, d, d) lie in the middle."""
    middle = centres(merged, mask_of(settings, merged.device)).clamp(
        -settings.extent, settings.extent
    )
    for half in (0, 1):
        sums.numerator[half] = moved(sums.numerator[half], -middle, settings.grid.box)
