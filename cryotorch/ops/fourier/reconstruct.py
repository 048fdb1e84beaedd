"""From inserted sums to a map: a prior, one division, one inverse transform."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Accumulator, dense, grid_to_volume
from cryotorch.ops.fourier.transforms import (
    shell_count,
    shell_sum,
    slabs,
    volume_shells,
)

LIGHT_PRIOR = 0.05  # times the shell's mean weight: maps as good as unregularised
UNSEEN = 1e-9  # of the largest mean weight: a shell with less was seen by no image


@dataclass(frozen=True)
class Sums:
    """Numerator and weights of the normal equations on the padded half transform (P, P, P // 2 + 1).

    Attributes:
        numerator: complex64; weight: float32; box: d; padding: P / d.
        limit: Fourier pixels (of the unpadded box) up to which images were inserted. Both are zero beyond: what interpolation
            carries there is a ratio of two leaks, as loud as the noise is in any shell, and no image supports it.
    """

    numerator: Tensor
    weight: Tensor
    box: int
    padding: int
    limit: float

    def __add__(self, other: Sums) -> Sums:
        numerator, weight = self.numerator + other.numerator, self.weight + other.weight
        return replace(self, numerator=numerator, weight=weight, limit=max(self.limit, other.limit))

    @property
    def shell(self) -> Tensor:
        """Shell (of the unpadded box) of every coefficient, (P, P, P // 2 + 1)."""
        fine = volume_shells(self.padding * self.box, self.weight.device)
        if self.padding == 1:
            return fine
        return (fine + self.padding // 2) // self.padding


def collect(accumulator: Accumulator, limit: float | None = None) -> Sums:
    """The sums of an accumulator that was filled up to ``limit`` Fourier pixels, by default d / 2."""
    box, padding = accumulator.box, accumulator.padding
    limit = box / 2 if limit is None else min(limit, box / 2)
    numerator, weight = dense(accumulator)
    beyond = ~within(limit, padding * box, padding, weight.device)
    numerator.masked_fill_(beyond, 0)
    weight.masked_fill_(beyond, 0)
    return Sums(numerator, weight, box, padding, limit)


def within(limit: float, padded: int, padding: int, device: torch.device | str = "cpu") -> Tensor:
    """Which coefficients (P, P, P // 2 + 1) of a padded half transform lie at most ``limit`` unpadded Fourier pixels out."""
    k = torch.fft.fftfreq(padded, 1 / padded, device=device).square()
    x = torch.arange(padded // 2 + 1.0, device=device).square()
    return k[:, None, None] + k[:, None] + x <= (padding * limit) ** 2


def shell_mean_weight(sums: Sums) -> Tensor:
    """Mean weight per shell (d // 2 + 1,) float64."""
    padded = sums.padding * sums.box
    fine = shell_sum(sums.weight, padded) / shell_count(padded, sums.weight.device)
    return fine[:: sums.padding]


def solve(sums: Sums, prior: Tensor, floor: float = 1e-3, rounds: int = 0) -> Tensor:
    """The map (d, d, d) float32: numerator / (weight + prior[shell]), gridding-corrected, zero beyond d/2 and in shells without weight.

    prior (d // 2 + 1,) is 1 / tau^2 in the unit of the weights. ``floor`` times the shell's mean weight is the least that
    divides, so that directions nobody looked from do not explode. ``rounds`` of density compensation, see ``compensation``,
    take the place of the division.
    """
    return grid_to_volume(_divided(sums, prior, floor, rounds), sums.box, sums.padding * sums.box)


def solve_lightly(sums: Sums, mean_weight: Tensor | None = None, rounds: int = 0) -> Tensor:
    """The map (d, d, d) float32 before any filter: what ``solve`` makes with a prior of 5 % of each shell's mean weight.

    The prior keeps rarely seen coefficients from exploding; what it takes from all others is given back. ``mean_weight``
    (d // 2 + 1,): of ``shell_mean_weight``, where it is known.
    """
    mean = shell_mean_weight(sums) if mean_weight is None else mean_weight
    return solve(sums, LIGHT_PRIOR * mean, rounds=rounds).mul_(1 + LIGHT_PRIOR)


def _divided(sums: Sums, prior: Tensor, floor: float, rounds: int) -> Tensor:
    """The transform that ``solve`` turns into a map, zero beyond the last shell."""
    mean = shell_mean_weight(sums)
    least = (floor * mean).clamp_min(1e-30)
    known = torch.cat([mean > UNSEEN * mean.max(), mean.new_zeros(1)])
    least, prior = (
        torch.cat([table.to(least), least.new_ones(1)]).to(sums.weight) for table in (least, prior)
    )
    known = known.to(sums.weight)

    def tables(shell: Tensor) -> list[Tensor]:
        index = shell.flatten().clamp(max=len(known) - 1)
        return [table.index_select(0, index).view(shell.shape) for table in (prior, least, known)]

    if rounds:
        added, least, inside = tables(sums.shell)
        divisor = torch.maximum(added + sums.weight, least)
        inside = inside > 0
        factor = compensation(divisor, inside, sums.padding * sums.box, rounds)
        return torch.where(inside, sums.numerator * factor, 0)
    transform = torch.empty_like(sums.numerator)
    arrays = (transform, sums.numerator, sums.weight, sums.shell)
    for out, numerator, weight, shell in zip(*map(slabs, arrays), strict=True):
        added, smallest, inside = tables(shell)
        factor = inside.div_(torch.maximum(added.add_(weight), smallest, out=added))
        torch.mul(numerator, factor, out=out)
    return transform


def compensation(density: Tensor, known: Tensor, padded: int, rounds: int) -> Tensor:
    """Factors f that even out a density (P, P, P // 2 + 1) > 0: (f density) * (1 2 1)/4 -> 1, instead of f = 1 / density.

        f <- f / ((f density) * h),   f = 1 at first, h = (1 2 1)/4 along each axis

    Where a padded grid meets few slices, a division would make a coefficient seen by the rim of one slice as loud as its
    neighbour seen by ten, although cropping the padded box averages them. With f, neighbours keep their relative weights
    at first and approach the division round by round. Outside ``known`` the density counts as even.
    Pipe & Menon 1999, doi:10.1002/(SICI)1522-2594(199901)41:1<179::AID-MRM25>3.0.CO;2-V.
    """
    factor = torch.ones_like(density)
    for _ in range(rounds):
        factor = factor / _neighbourhood(torch.where(known, factor * density, 1.0), padded)
    return factor


def _neighbourhood(values: Tensor, padded: int) -> Tensor:
    """Values (P, P, P // 2 + 1), equal at k and -k, smoothed by (1 2 1)/4 along each axis of the whole transform."""
    for axis in (0, 1):
        beside = values.roll(1, axis) + values.roll(-1, axis)
        values = values.lerp(beside.div_(2), 0.5)
    # beyond the first and the last column lie the mirror images of these
    outer = values[:, :, [1, padded - padded // 2 - 1]].flip(0, 1).roll((1, 1), (0, 1))
    beside = torch.cat([outer[..., :1], values[..., :-1]], -1)
    beside += torch.cat([values[..., 1:], outer[..., 1:]], -1)
    return values.lerp(beside.div_(2), 0.5)
