"""Conical Fourier shell correlation: the FSC of two maps direction by direction, and the scores drawn from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import volume_shells
from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.ops.resolution.fsc import FEW_NUMBERS, THRESHOLD
from cryotorch.ops.resolution.significance import noise_band

CPU_PAIRS = 1 << 20  # directions x coefficients at a time: in a CPU's cache
GPU_PAIRS = 1 << 26
MIN_COEFFICIENTS = 10  # coefficients below which a cone says nothing about a shell
FIRST_JUDGED_SHELL = 4  # shell from which on a fall counts: those before hold next to nothing, and suffer from windows and masks
EMPTY_POWER = 0.05  # of the power of the whole shell
OVERLAP_POINTS = 4000  # of a sphere that overlaps are counted on
# Rounding must not decide about what lies on the rim: 90 degrees take in everything.
RIM = 1e-6


class Cones(NamedTuple):
    """What cones around n directions hold, shell by shell; all (n, d//2 + 1) float64.

    Attributes:
        curves: the FSC; power: mean |F|^2 of both maps, relative to the whole shell.
    """

    curves: Tensor
    power: Tensor


def conical_fsc(
    a: Tensor,
    b: Tensor,
    directions: Tensor,
    half_angle: float,
    advance: Callable[[int], object] = lambda done: None,
) -> Cones:
    """FSC of volumes (d, d, d) within double cones around directions (n, 3).

        cFSC(s, u) = Re sum F1 F2* / sqrt( sum |F1|^2  sum |F2|^2 )      k in shell s with |k.u| >= |k| cos(half_angle)

    The transform of a map is Hermitian, so u and -u have the same curve. Shell 0 is 1. Where a cone holds fewer than
    10 coefficients of a shell (the first three or so at 20 degrees), the whole shell takes its place. The
    cone has a hard edge: nothing is transformed back, so that nothing rings; the numbers are those that others report;
    and the cone of 90 degrees is the FSC itself. The cone is wide against what a soft edge would blur.

    Which coefficient lies in which cone is a matrix of zeros and ones, made block by block and multiplied with the three
    products; blocks are summed in float32, each shell in float64.

    Args:
        half_angle: radians, up to pi / 2.
        advance: told the coefficients done since the last call; ``coefficients`` are all.

    Raises:
        ValueError: for a half angle that is not above 0 and at most pi / 2.
    """
    box, device = a.shape[-1], a.device
    if not 0 < half_angle <= math.pi / 2:
        raise ValueError(f"half_angle must be above 0 and at most pi / 2, got {half_angle:g}.")
    shells = _by_shell(box, device)
    first, second = (torch.fft.rfftn(volume).flatten() for volume in (a, b))
    axes = directions.to(device, first.real.dtype).T.contiguous()
    least = math.cos(half_angle) - RIM
    pairs = CPU_PAIRS if device.type == "cpu" else GPU_PAIRS
    size = max(64, pairs // max(1, len(directions)))
    curves = torch.ones(len(directions), box // 2 + 1, dtype=torch.float64, device=device)
    power = torch.ones_like(curves)
    for shell, members in enumerate(shells[1:], 1):
        cone = torch.zeros(4, len(directions), dtype=torch.float64, device=device)
        whole = torch.zeros(4, 1, dtype=torch.float64, device=device)
        for part in members.split(size):
            unit, weight = _coefficients(part, box)
            products = _products(first[part], second[part], weight.to(axes.dtype))
            inside = (unit.to(axes.dtype) @ axes).abs_().ge_(least)
            cone += products @ inside
            whole += products.double().sum(1, keepdim=True)
            advance(len(part))
        counted = cone[3] >= min(MIN_COEFFICIENTS, float(whole[3, 0]))
        curves[:, shell] = torch.where(counted, _ratio(cone), _ratio(whole))
        relative = _mean_power(cone) / _mean_power(whole).clamp(min=1e-300)
        power[:, shell] = torch.where(counted, relative, 1.0)
    return Cones(curves, power)


def coefficients(box: int) -> int:
    """How many coefficients of the half transform lie in the shells 1 to d // 2."""
    return sum(len(members) for members in _by_shell(box, torch.device("cpu"))[1:])


def _by_shell(box: int, device: torch.device) -> list[Tensor]:
    """Shell by shell, 0 to d // 2, the places (v,) int64 in the flattened (d, d, d // 2 + 1) half transform."""
    shell = volume_shells(box, device).flatten().to(torch.int16)
    counts = torch.bincount(shell)
    return list(torch.argsort(shell, stable=True).split(counts.tolist()))[: box // 2 + 1]


def _coefficients(place: Tensor, box: int) -> tuple[Tensor, Tensor]:
    """Unit vectors (v, 3) float64 and how many of the full transform each stands for (v,)."""
    columns = box // 2 + 1
    x, line = place % columns, place // columns
    y, z = (torch.where(2 * k < box, k, k - box) for k in (line % box, line // box))
    vector = torch.stack([x, y, z], 1).double()
    alone = (x == 0) | (2 * x == box)
    return vector / vector.norm(dim=1, keepdim=True), torch.where(alone, 1.0, 2.0)


def _products(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """(4, v): Re(a b*), |a|^2, |b|^2 and 1, each times its weight."""
    cross = a.real * b.real + a.imag * b.imag
    powers = a.real.square() + a.imag.square(), b.real.square() + b.imag.square()
    return torch.stack([cross, *powers, torch.ones_like(cross)]) * weight


def _ratio(sums: Tensor) -> Tensor:
    """FSC (n,) of sums (4, n); 0 where there is no power."""
    power = sums[1] * sums[2]
    return torch.where(power > 0, sums[0] / power.sqrt().clamp(min=1e-300), 0.0)


def _mean_power(sums: Tensor) -> Tensor:
    return (sums[1] + sums[2]) / sums[3].clamp(min=1)


def cone_band(
    numbers: Tensor, directions: Tensor, half_angle: float, group: Tensor | None = None
) -> Tensor:
    """The FSC (n, s) that noise in a cone around directions (n, 3) stays below, see ``significance.noise_band``.

    A cone holds the share 1 - cos(half_angle) of a shell's ``numbers`` (s,), those of ``independent_numbers`` without symmetry. A
    group (g, 3, 3) repeats what lies in cones that overlap with their copies, near its axes:

        v(u) = v (1 - cos half_angle) / sum_g |cone(u) and cone(g u)| / |cone(u)|
    """
    least, axes = math.cos(half_angle) - RIM, directions.double().cpu()
    sphere = fibonacci_directions(OVERLAP_POINTS).double()
    inside = (sphere @ axes.T).abs() >= least
    times = torch.zeros(len(axes), dtype=torch.float64)
    for element in torch.eye(3)[None] if group is None else group.cpu():
        copies = (sphere @ (element.double() @ axes.T)).abs() >= least
        times += (inside & copies).sum(0) / inside.sum(0).clamp(min=1)
    share = (1 - math.cos(half_angle)) / times.clamp(min=1)
    return noise_band(share[:, None] * numbers.double().cpu())


def limits(band: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """What a curve must stay above, (n, s): the threshold and the band of noise (n, s); where that is above 0.5, the threshold alone.

    Too few numbers to leave the noise can end no curve; ``directional_resolution`` does not claim them either.
    """
    return torch.where(band > FEW_NUMBERS, threshold, band.clamp(min=threshold))


def first_fall(curves: Tensor, threshold: float | Tensor = THRESHOLD) -> Tensor:
    """The first shell (n,) from 4 on with a value of a curve (n, s) at or below a threshold, or ``limits`` (n, s); s if none."""
    fallen = ~(curves > threshold)
    fallen[:, :FIRST_JUDGED_SHELL] = False
    ends = torch.full_like(fallen[:, :1], True)
    return torch.cat([fallen, ends], 1).byte().argmax(1)


def curve_area(curves: Tensor, threshold: float | Tensor = THRESHOLD) -> Tensor:
    """sum_s s^2 cFSC(s) of curves (n, s) below the first shell at or below a threshold, or ``limits`` (n, s): (n,)."""
    shell = torch.arange(curves.shape[1], dtype=curves.dtype, device=curves.device)
    kept = shell < first_fall(curves, threshold)[:, None]
    return (torch.where(kept, curves, 0.0) * shell.square()).sum(1)


def area_ratio(curves: Tensor, threshold: float | Tensor = THRESHOLD) -> float:
    """The conical FSC area ratio, cFAR: the smallest ``curve_area`` over the largest, 0 to 1, of curves (n, s).

    1 for a map that is resolved alike in all directions; below 0.5 the resolution depends on the direction. s^2 counts
    the coefficients of a shell, so that the area is the information in a direction. The ratio was introduced with
    CryoSPARC 4.4, which does not tell its weights; s^2, and the sum that ends before the first shell at or below
    0.143, are those of SIMPLE's score; with ``limits`` (n, s) it ends in the noise at the latest. A fall in the shells 1 to 3 does not count. NaN where no curve ever rises above the threshold.
    """
    area = curve_area(curves, threshold)
    largest = float(area.max())
    return float(area.min()) / largest if largest > 0 else math.nan


def directional_resolution(
    curves: Tensor, edge: float, band: Tensor | None = None, threshold: float = THRESHOLD
) -> Tensor:
    """Resolution (n,) in Å of curves (n, s) in a box of ``edge`` Å, where the line between shells falls to a threshold.

    Nyquist where a curve ends above. With a ``cone_band`` (n, s) a curve ends at its ``limits``, and no shell within the noise is
    claimed: that before counts, and where there is none the direction has NaN.
    """
    band = torch.zeros_like(curves) if band is None else band.to(curves)
    least = limits(band, threshold)
    fall, last = first_fall(curves, least), curves.shape[1] - 1
    at = fall.clamp(max=last)[:, None]
    below, limit = curves.gather(1, at)[:, 0], least.gather(1, at)[:, 0]
    above = curves.gather(1, (fall - 1)[:, None])[:, 0]
    step = ((above - limit) / (above - below).clamp(min=1e-12)).clamp(0, 1)
    shell = torch.arange(last + 1, device=curves.device)
    clear = (curves >= band) & (shell < fall[:, None]) & (shell > 0)
    sure = torch.where(clear, shell, 0).amax(1)
    reached = sure + torch.where((fall > last) | (sure < fall - 1), 0.0, step)
    return torch.where(sure > 0, edge / reached.clamp(min=1), math.nan)


def empty_directions(power: Tensor, last: int) -> Tensor:
    """Directions (n,) bool where maps of a power (n, s) as in ``Cones`` hold next to nothing: less than 5 % of the shell's, in most shells from 4 to ``last``.

    Either nobody looked along a plane through them, or the structure repeats too regularly to scatter there. The FSC
    there is that of what a mask smears in from other directions, alike in both maps, and looks far too good.
    """
    return (
        power[:, FIRST_JUDGED_SHELL : max(last, FIRST_JUDGED_SHELL) + 1].median(1).values
        < EMPTY_POWER
    )
