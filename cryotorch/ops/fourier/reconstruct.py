"""From inserted sums to a map: a prior, one division, one inverse transform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Accumulator, dense, grid_to_volume
from cryotorch.ops.fourier.transforms import ALL, shell_count, shell_sum, spans, volume_shells

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

    def __iadd__(self, other: Sums) -> Sums:
        self.numerator.add_(other.numerator)
        self.weight.add_(other.weight)
        return replace(self, limit=max(self.limit, other.limit))

    def shells(self, z: slice = ALL, y: slice = ALL) -> Tensor:
        """Shell (of the unpadded box) of every coefficient, (P, P, P // 2 + 1), or of those at slices of z and y."""
        fine = volume_shells(self.padding * self.box, self.weight.device, z, y)
        if self.padding == 1:
            return fine
        return (fine + self.padding // 2) // self.padding


Halves = dict[
    int, Sums
]  # of half set 0 and 1, or of one of them where several processes share the work


def collect(accumulator: Accumulator, limit: float | None = None, forget: bool = False) -> Sums:
    """The sums of an accumulator that was filled up to ``limit`` Fourier pixels, by default d / 2; ``forget``: see ``dense``."""
    box, padding = accumulator.box, accumulator.padding
    limit = box / 2 if limit is None else min(limit, box / 2)
    numerator, weight = dense(accumulator, forget)
    for z in spans(len(weight), weight[0].numel()):
        beyond = ~within(limit, padding * box, padding, weight.device, z)
        numerator[z].masked_fill_(beyond, 0)
        weight[z].masked_fill_(beyond, 0)
    return Sums(numerator, weight, box, padding, limit)


def within(
    limit: float, padded: int, padding: int, device: torch.device | str = "cpu", z: slice = ALL
) -> Tensor:
    """Which coefficients (P, P, P // 2 + 1) of a padded half transform, or of some rows, lie at most ``limit`` unpadded Fourier pixels out."""
    k = torch.fft.fftfreq(padded, 1 / padded, device=device).square()
    x = torch.arange(padded // 2 + 1.0, device=device).square()
    return k[z][:, None, None] + k[:, None] + x <= (padding * limit) ** 2


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
    lines = _quotient(sums, prior, floor, rounds)
    return grid_to_volume(lines, sums.box, sums.padding * sums.box, sums.weight.device)


def solve_lightly(sums: Sums, mean_weight: Tensor | None = None, rounds: int = 0) -> Tensor:
    """The map (d, d, d) float32 before any filter: what ``solve`` makes with a prior of 5 % of each shell's mean weight.

    The prior keeps rarely seen coefficients from exploding; what it takes from all others is given back. ``mean_weight``
    (d // 2 + 1,): of ``shell_mean_weight``, where it is known.
    """
    mean = shell_mean_weight(sums) if mean_weight is None else mean_weight
    return solve(sums, LIGHT_PRIOR * mean, rounds=rounds).mul_(1 + LIGHT_PRIOR)


def _quotient(sums: Sums, prior: Tensor, floor: float, rounds: int) -> Callable[[slice], Tensor]:
    """The transform that ``solve`` turns into a map, zero beyond the last shell, (P, y, P // 2 + 1) at a slice of y."""
    mean = shell_mean_weight(sums)
    least = (floor * mean).clamp_min(1e-30)
    known = torch.cat([mean > UNSEEN * mean.max(), mean.new_zeros(1)])
    least, prior = (
        torch.cat([table.to(least), least.new_ones(1)]).to(sums.weight) for table in (least, prior)
    )
    known = known.to(sums.weight)

    def divisor(z: slice, y: slice) -> tuple[Tensor, Tensor]:
        shell = sums.shells(z, y)
        index = shell.flatten().clamp(max=len(known) - 1)
        added, smallest, inside = (
            table.index_select(0, index).view(shell.shape) for table in (prior, least, known)
        )
        return torch.maximum(added.add_(sums.weight[z, y]), smallest, out=added), inside

    if rounds == 0:

        def lines(y: slice) -> Tensor:
            below, inside = divisor(ALL, y)
            return sums.numerator[:, y] * inside.div_(below)

        return lines

    def density(z: slice) -> tuple[Tensor, Tensor]:
        below, inside = divisor(z, ALL)
        return below, inside > 0

    factor = compensation(density, sums.weight, rounds)
    return lambda y: sums.numerator[:, y] * factor[:, y]


def compensation(
    density: Callable[[slice], tuple[Tensor, Tensor]], like: Tensor, rounds: int
) -> Tensor:
    """Factors f (P, P, P // 2 + 1) that even out a density > 0: (f density) * (1 2 1)/4 -> 1, instead of f = 1 / density.

        f <- f / ((f density) * h),   f = 1 at first, h = (1 2 1)/4 along each axis

    Where a padded grid meets few slices, a division would make a coefficient seen by the rim of one slice as loud as its
    neighbour seen by ten, although cropping the padded box averages them. With f, neighbours keep their relative weights
    at first and approach the division round by round. Where it is not known the density counts as even, and f is 0 at the end.
    Pipe & Menon 1999, doi:10.1002/(SICI)1522-2594(199901)41:1<179::AID-MRM25>3.0.CO;2-V.

    Args:
        density: gives the density at a slice of z, and where it is known.
        like: (P, P, P // 2 + 1), what the factors are to be like.
    """
    factor, weighted = torch.ones_like(like), torch.empty_like(like)
    parts = spans(len(like), like[0].numel())
    for _ in range(rounds):
        for z in parts:
            value, known = density(z)
            weighted[z] = _smooth(torch.where(known, value.mul_(factor[z]), 1.0), 1)
        _divide_by_neighbourhood_(factor, weighted)
    for z in parts:
        factor[z].masked_fill_(~density(z)[1], 0)
    return factor


def _smooth(values: Tensor, axis: int) -> Tensor:
    """Values, any shape, smoothed by (1 2 1)/4 along an axis whose ends meet."""
    beside = values.roll(1, axis) + values.roll(-1, axis)
    return values.lerp(beside.div_(2), 0.5)


def _divide_by_neighbourhood_(factor: Tensor, values: Tensor) -> None:
    """Divide factors (P, P, P // 2 + 1) by values, equal at k and -k, that are smoothed by (1 2 1)/4 along z and x of the whole transform."""
    padded = len(values)
    # beyond the first and the last column lie the mirror images of these
    outer = _smooth(values[:, :, [1, padded - padded // 2 - 1]], 0)
    outer = outer.flip(0, 1).roll((1, 1), (0, 1))
    for z in spans(padded, values[0].numel()):
        beside = values[torch.arange(z.start - 1, z.stop + 1) % padded]
        middle = beside[1:-1].lerp((beside[:-2] + beside[2:]).div_(2), 0.5)
        sides = torch.cat([outer[z, :, :1], middle[..., :-1]], -1)
        sides += torch.cat([middle[..., 1:], outer[z, :, 1:]], -1)
        factor[z] /= middle.lerp_(sides.div_(2), 0.5)
