"""How much noise alone can correlate: independent numbers per shell under a mask and a point group."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from cryotorch.ops.fourier.transforms import shell_count, slabs, sum_by_number
from cryotorch.ops.geometry.rotations import rotation_angle

MAX_GRID_EDGE = 64  # a mask is looked at on a grid of at most so many voxels: its transform has next to nothing beyond
ERRORS = 3.0  # standard errors of the noise band


def noise_band(numbers: Tensor, errors: float = ERRORS) -> Tensor:
    """The FSC (s,) that noise stays below by so many standard errors, from ``independent_numbers`` (s,).

        tanh(errors / sqrt(v - 2)),    1 for v <= 2

    the correlation of v pairs of numbers in Fisher's transform, which is never above 1 and near errors / sqrt(v) for many.
    """
    enough = numbers > 2
    rest = torch.where(enough, numbers - 2, 1.0)
    return torch.where(enough, torch.tanh(errors * rest.rsqrt()), 1.0)


def independent_numbers(
    mask: Tensor, group: Tensor | None = None, profile: Tensor | None = None
) -> Tensor:
    """Independent real numbers per shell (d//2 + 1,) float64 of noise under a mask (d, d, d), symmetric under a group (g, 3, 3).

    The FSC of two such noise maps has the variance 1 / v. White noise has v = n, the coefficients of the shell with both
    Friedel mates (half as many are independent, of two numbers each). Under a mask m they are correlated,

        <F(k) F*(k')> = W(k - k'),  W the transform of w = m^2 times the variance of the noise,
        v = n A(0) / sum_q |W(q) / W(0)|^2 A(q),

    with A(q) the volume that a shell shares with itself moved by q. For shells much thicker than W is wide that is n times
    the part (sum w)^2 / (N sum w^2) of the box; for one pixel it is more, as across a shell there is nothing to lose.
    A point group leaves, as its character says (Burnside's lemma),

        v_G = (v + sum over turns by alpha of 1 / (2 sin^2(alpha / 2))) / g,    at least 1,

    where the sum is what lies on the axes.

    Args:
        profile: (r,) variance of the noise at whole pixels from the middle, the last value beyond; None = the same everywhere.
    """
    box = len(mask)
    weight = mask.square()
    if profile is not None:
        profile = profile.to(weight)
        for part, radius in _with_radius(weight):
            part *= profile[radius.clamp_(max=len(profile) - 1)]
    step = max(1, box // MAX_GRID_EDGE)
    coarse = avg_pool3d(weight[None], step, ceil_mode=True, count_include_pad=False)[0]
    power = torch.fft.rfftn(coarse.double()).abs().square().cpu()
    power /= power[0, 0, 0].clamp_min(1e-300)
    distance, share = _by_distance(power)
    shells = torch.arange(box // 2 + 1, dtype=torch.float64)
    overlap = shell_overlap(shells, distance)
    numbers = shell_count(box, "cpu").double() * overlap[:, 0] / (overlap @ share)
    if group is None or len(group) == 1:
        return numbers
    turn = rotation_angle(torch.eye(3).double(), group[1:].double().cpu())
    axes = float((0.5 / (turn / 2).sin().square()).sum())
    return ((numbers + axes) / len(group)).clamp_min(1)


def antisymmetric_numbers(
    box: int, radius: float, group: Tensor, turn: Tensor, mirrored: bool
) -> Tensor:
    """Independent real numbers per shell (d//2 + 1,) float64 of noise in a sphere that changes its sign under an operation.

    The noise has a point group (g, 3, 3); the operation, ``turn`` (3, 3) followed by an inversion if ``mirrored``, leaves the group as
    it is. Spherical harmonics of degree l hold

        a_l = sum over the group of (chi_l(g) -+ (-1)^l chi_l(turn g)) / 2g,    chi_l(angle) = sin((l + 1/2) angle) / sin(angle / 2)

    such functions, + without and - with the inversion taken into the sign, and a sphere of ``radius`` pixels has about
    2 radius / d sqrt(1 - (l + 1/2)^2 / x^2) radial functions of each in a shell, x = 2 pi radius k / d (those of a Bessel function
    that oscillates). Icosahedral maps have none below l = 15: coarse ones show no hand.
    """
    shells = torch.arange(box // 2 + 1, dtype=torch.float64)
    x = 2 * math.pi * radius / box * shells
    degree = torch.arange(int(x[-1]) + 1, dtype=torch.float64)
    group, turn = group.double().cpu(), turn.double().cpu()
    parity = (-1.0) ** degree if mirrored else torch.ones_like(degree)
    copies = _characters(group, degree).sum(0) - parity * _characters(turn @ group, degree).sum(0)
    copies = (copies / (2 * len(group))).round()
    oscillates = (1 - ((degree + 0.5) / x[:, None].clamp_min(1e-9)).square()).clamp_min(0).sqrt()
    return 2 * radius / box * (oscillates @ copies)


def _characters(rotations: Tensor, degree: Tensor) -> Tensor:
    """chi_l (g, l) of rotations (g, 3, 3)."""
    half = (rotation_angle(torch.eye(3).double(), rotations) / 2)[:, None]
    none = half.abs() < 1e-6
    ratio = ((2 * degree + 1) * half).sin() / half.sin().where(~none, torch.ones_like(half))
    return torch.where(none, 2 * degree + 1, ratio)


def noise_profile(half_maps: Tensor) -> Tensor:
    """Variance (r,) of the difference of half maps (2, d, d, d) at whole pixels from the middle, up to d // 2."""
    difference, last = half_maps[0] - half_maps[1], half_maps.shape[-1] // 2
    total, count = torch.zeros(2, last + 1, dtype=torch.float64, device=half_maps.device)
    for part, radius in _with_radius(difference):
        radius = radius.clamp_(max=last)
        total += sum_by_number(radius, part.square().double(), last + 1)
        count += sum_by_number(radius, torch.ones_like(radius), last + 1)
    return total / count


def noise_share(mask: Tensor, profile: Tensor) -> float:
    """The part of noise with this ``noise_profile`` (r,) that a mask (d, d, d) holds."""
    held = whole = 0.0
    for part, radius in _with_radius(mask):
        noise = profile[radius.clamp_(max=len(profile) - 1)]
        held += float((noise * part.square()).sum())
        whole += float(noise.sum())
    return held / max(whole, 1e-300)


def shell_overlap(shells: Tensor, distance: Tensor) -> Tensor:
    """Volume (s, q) that shells of thickness 1 around radii (s,) share with themselves moved by a distance (q,)."""
    outer, inner = shells[:, None] + 0.5, (shells[:, None] - 0.5).clamp_min(0)
    lens = [_lens(a, b, distance) for a, b in ((outer, outer), (outer, inner), (inner, inner))]
    return (lens[0] - 2 * lens[1] + lens[2]).clamp_min(0)


def _lens(a: Tensor, b: Tensor, distance: Tensor) -> Tensor:
    """Volume that balls of radii a >= b share when their centres are so far apart."""
    q = distance.clamp_min(1e-9)
    cut = (
        math.pi * (a + b - q).square() * (q * q + 2 * q * (a + b) - 3 * (a - b).square()) / (12 * q)
    )
    whole = 4 / 3 * math.pi * b**3 * torch.ones_like(q)
    return torch.where(q <= a - b, whole, torch.where(q >= a + b, 0.0, cut))


def _by_distance(power: Tensor) -> tuple[Tensor, Tensor]:
    """Distances from the origin of a half transform (p, p, p // 2 + 1), rising, and its sum over both halves at each."""
    size = len(power)
    k = torch.fft.fftfreq(size, 1 / size).round()
    x = torch.arange(size // 2 + 1.0)
    squared = (k[:, None, None] ** 2 + k[:, None] ** 2 + x**2).long()
    twice = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64)
    twice[0] = 1
    if size % 2 == 0:
        twice[-1] = 1
    total = torch.bincount(squared.flatten(), (power * twice).flatten())
    there = torch.nonzero(total)[:, 0]
    return there.double().sqrt(), total[there]


def _with_radius(volume: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Slabs of a volume (d, d, d), and whole distances of their voxels from pixel d // 2."""
    squares = (torch.arange(len(volume), device=volume.device) - len(volume) // 2).float().square()
    plane, first = squares[:, None] + squares, 0
    for part in slabs(volume):
        z = squares[first : first + len(part), None, None]
        first += len(part)
        yield part, (z + plane).sqrt_().round_().long()
