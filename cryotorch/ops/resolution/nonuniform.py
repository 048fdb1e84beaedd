"""Non-uniform regularisation: every place of a map low-passed where cross-validation of the half maps says.

``local_cutoff`` chooses, ``apply_cutoff`` filters half maps and merged map alike. The half maps stay as independent as
they were. Each result is its own half map under a filter; no coefficient of one enters the other. What they share is the
choice among a few smooth gains per place, as they share one FSC-weighted filter elsewhere. The choice is unbiased towards
agreement where there is none: with independent noise each finer filter costs its noise in full, see ``local_cutoff``, so
the coarsest one stays. It acts on both alike all the same: a correlation of the filtered maps counts the places where
noise agreed, and their solvent is empty as under a mask. Report the FSC of the unfiltered half maps.

Punjani, Zhang and Fleet 2020, doi:10.1038/s41592-020-00990-8. Beyond half maps and results, 4 d^3 floats at most. With the
default bank of a 256 box (18 filters, 1 Å pixels) about 25 transforms of the box for the choice and 38 for two half maps,
16 seconds of one core.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import interpolate, pad

from cryotorch.ops.fourier.filters import low_pass_gain, per_wave_number
from cryotorch.ops.fourier.transforms import multiply_radial_, slabs, wave_numbers

COARSEST_CUTOFF = 20.0  # Å
CUTOFF_STEP = 1.15  # from one cutoff of the bank to the next
MIN_WAVES = 4  # of the coarsest cutoff along the box
TAIL = 0.02  # gain of a filter below which a band is cut off
SAMPLES = 1.25  # of the choice per finest cutoff; 2 change the error by less than a percent
MIN_WINDOW_SHARE = 0.01  # share of a window within the support below which it says nothing
ROUNDING = (1e-6, 1e-11)  # in float32: of the largest value of a band, and of all


def filter_bank(
    box: int, pixel_size: float, finest: float | None = None, coarsest: float = COARSEST_CUTOFF
) -> list[float]:
    """Cutoffs in Å from ``coarsest``, or a quarter of the box, to ``finest`` (default two pixels), each 1.15 finer.

    The default does not stop at the FSC: of half maps without a mask it knows nothing about the best
    part, and filters that nobody chooses cost time only.
    """
    edge = box * pixel_size
    first = min(coarsest, edge / MIN_WAVES)
    last = min(first, finest or 2 * pixel_size)
    steps = max(1, math.ceil(math.log(first / last) / math.log(CUTOFF_STEP) - 1e-9))
    return [first * (last / first) ** (i / steps) for i in range(steps + 1)]


def local_cutoff(
    half_maps: Tensor,
    pixel_size: float,
    resolutions: Sequence[float] | None = None,
    kind: str = "butterworth",
    order: int = 8,
    window: float = 3.0,
    support: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The cutoff in Å, (d, d, d), at which low-passed half maps (2, d, d, d) predict each other best.

    Cross-validation compares each filtered half map with the other one as it is,

        E_j(x) = w_j * [ (h_j m1 - m2)^2 + (h_j m2 - m1)^2 ]      h_j the filters of the bank, w_j windows
               = 2 w_j * [ ((1 - h_j) p)^2 + ((1 + h_j) q)^2 ]    p, q = (m1 +- m2) / 2

    and so measures twice the error (1 - h)^2 s^2 + h^2 n^2 of a filtered half map against the signal s,
    plus the noise n^2 of the target. Two things make the literal rule poor. The target's noise is no
    constant when each j averages it under another window: its scatter decides. And what lies outside
    the band between two neighbouring filters has nothing to say about which of them is better, yet
    adds to the scatter. So the choice rests on differences of neighbours, in the band between them and
    under one window for the pair, normalised, of width ``window`` times the pair's mean cutoff:

        E_j+1 - E_j = w_j * [ (c_j q)^2 - (b_j p)^2 ]      b^2 = 2 (h' - h)(2 - h' - h),   h = h_j
                                                         c^2 = 2 (h' - h)(2 + h' + h),   h' = h_j+1

    which over all space is the difference above, exactly (Parseval). For independent noise it is
    positive, 2 (h'^2 - h^2) n^2, for signal alone negative; for a thin band it vanishes where signal and
    noise of a half map are equal, at a local FSC of 0.5. The choice is the smallest running sum from
    the coarsest filter on, moved to where the differences, linear between bands, pass zero.

    ``weight`` is a gain per shell that all filters share, h_j -> weight h_j, in the error and in the result.
    Without it (as published) only the cutoffs end the noise, at an FSC of 0.5, and their scatter costs
    resolution beyond. Protein, which is not alike everywhere, gains more than that; a texture, for
    which the global Wiener filter F is the best there is, does not. With the global gain 2F / (1 + F), ``filters.fsc_weight`` squared, noise is already low there, and what is cut is
    only what is much worse than average. Measured: error over power of the part, and the shell of
    FSC 0.5 against the truth, half maps, 96 box (textures 72), window 3,

                                        global F     literal E   here, unweighted   2F / (1 + F)
        sharp half of a protein       0.195  33.1   0.244  31.1    0.163  36.3      0.167  34.9
        its half blurred at 15 Å      0.168         0.119          0.079            0.081
        uniform protein               0.197  33.2                  0.179  35.7      0.172  35.4
        sharp half of a texture       0.532  27.5                  0.579  24.7      0.497  27.6
        uniform texture               0.497  27.6                  0.576  25.0      0.516  27.4

    with a quarter of the global filter's noise amplitude in the solvent. Differences of E under
    pairwise windows, cross terms with other bands included, do no better than the bands (0.165 for
    0.163) at twice the transforms.

    Args:
        resolutions: the bank in Å, coarsest first (default ``filter_bank``).
        kind, order: of the filters, as in ``filters.low_pass``.
        window: width of a ball of which the Gaussian window has the variance, sigma = width / sqrt(20).
            2 follows smaller parts (sharp half 0.155), and lets half a percent of pure noise pass.
        support: (d, d, d) bool, where the maps are to be judged. The windows average within it only;
            places that no window reaches have the coarsest cutoff. Default everywhere. It does not
            stop what is much louder outside: the bands themselves reach over its edge.
        weight: (d//2 + 1,) gain per shell, see above.

    Exchanging the half maps changes nothing. Bands are transformed on grids as coarse as they allow,
    and the choice is made on one of 1.25 samples per finest cutoff, then interpolated linearly.
    """
    bank = _checked(resolutions, half_maps, pixel_size)
    box, edge = half_maps.shape[-1], half_maps.shape[-1] * pixel_size
    k, shared = wave_numbers(box, half_maps.device), _shared_gain(half_maps, weight)
    both = torch.fft.rfftn((half_maps[0] + half_maps[1]).div_(2), norm="forward")
    apart = torch.fft.rfftn((half_maps[0] - half_maps[1]).div_(2), norm="forward")
    reach = _reach(kind, order)
    grid = min(box, _fast_length(math.ceil(SAMPLES * edge / bank[-1])))
    chosen = half_maps.new_zeros((grid,) * 3)
    excess, before = torch.zeros_like(chosen), torch.zeros_like(chosen)
    largest = half_maps.new_zeros(())
    for j, (coarse, fine) in enumerate(pairwise(bank)):
        size = min(box, _fast_length(max(8, math.ceil(2 * reach * edge / fine) + 1)))
        low, high = (shared * low_pass_gain(k * r / edge, kind, order) for r in (coarse, fine))
        sigma = window * math.sqrt(coarse * fine / 20)
        gaussian = torch.exp(-2 * (math.pi * sigma / edge * k).square())
        gap = 2 * (high - low).clamp(min=0)
        change = _filtered(apart, (gap * (2 + high + low)).sqrt(), size).square_()
        change -= _filtered(both, (gap * (2 - high - low)).sqrt(), size).square_()
        if support is None:
            change = _smoothed(change, gaussian, grid)
        else:
            inside = _nearest(support, size).to(change)
            change = _smoothed(change.mul_(inside), gaussian, grid)
            covered = _smoothed(inside, gaussian, grid)
            change = torch.where(covered > MIN_WINDOW_SHARE, change / covered, 0.0)
        excess += change
        last = (chosen == j) & (j > 0)
        chosen += torch.where(last, before / (before - change).clamp(max=-1e-30) - 0.5, 0.0)
        # transforms leave something everywhere, which must not pass for signal where there is nothing
        here = change.abs().amax()
        largest = torch.maximum(largest, here)
        better = excess < -torch.maximum(ROUNDING[0] * here, ROUNDING[1] * largest)
        chosen.masked_fill_(better, j + 1)
        excess.masked_fill_(better, 0)
        before = change
    cutoffs = chosen.new_tensor(bank)
    lower = chosen.long().clamp_(0, len(bank) - 2)
    return _enlarged(torch.lerp(cutoffs[lower], cutoffs[lower + 1], chosen - lower), box)


def apply_cutoff(
    volume: Tensor,
    pixel_size: float,
    cutoff: Tensor,
    resolutions: Sequence[float] | None = None,
    kind: str = "butterworth",
    order: int = 8,
    weight: Tensor | None = None,
) -> Tensor:
    """Volumes (*b, d, d, d) low-passed at the ``cutoff`` (d, d, d) in Å of each place.

        v'(x) = sum_j a_j(x) (h_j v)(x)      a_j = 1 at cutoff(x) = resolutions[j], falling linearly to 0 at its neighbours

    with the bank of ``local_cutoff``, whose arguments these are, weight (d//2 + 1,). Cutoffs beyond its ends are those of
    its ends. Linear in the volumes: a merged map filtered is the mean of its filtered halves.
    """
    bank = _checked(resolutions, volume, pixel_size)
    box, edge = volume.shape[-1], volume.shape[-1] * pixel_size
    k, shared = wave_numbers(volume.shape[-1], volume.device), _shared_gain(volume, weight)
    cutoff = cutoff.to(volume)
    best, worst = float(cutoff.amin()), float(cutoff.amax())
    out = volume.new_zeros(volume.shape)
    for one, result in zip(volume[None].flatten(0, -4), out[None].flatten(0, -4), strict=True):
        transform = torch.fft.rfftn(one, norm="forward")
        for j, middle in enumerate(bank):
            coarser, finer = bank[max(j - 1, 0)], bank[min(j + 1, len(bank) - 1)]
            if (best >= coarser and j > 0) or (worst <= finer and j < len(bank) - 1):
                continue  # nobody chose it
            gain = shared * low_pass_gain(k * middle / edge, kind, order)
            filtered = _filtered(transform, gain, box)
            for total, part, place in zip(*map(slabs, (result, filtered, cutoff)), strict=True):
                total += _share(place, coarser, middle, finer) * part
            del filtered, part  # before the next one comes
    return out


def _share(place: Tensor, coarser: float, middle: float, finer: float) -> Tensor:
    """a_j of ``apply_cutoff``: a hat over the neighbours, flat beyond the ends of the bank."""
    one = torch.ones_like(place)
    rising = (place - finer) / (middle - finer) if middle > finer else one
    falling = (coarser - place) / (coarser - middle) if coarser > middle else one
    return torch.minimum(rising, falling).clamp_(0, 1)


def _checked(resolutions: Sequence[float] | None, volume: Tensor, pixel_size: float) -> list[float]:
    if resolutions is None:
        return filter_bank(volume.shape[-1], pixel_size)
    bank = [float(r) for r in resolutions]
    if len(bank) < 2 or not all(a > b > 0 for a, b in pairwise(bank)):
        raise ValueError(
            f"A bank of filters needs two or more cutoffs in Å, coarsest first, got {bank}."
        )
    return bank


def _reach(kind: str, order: int) -> float:
    """|k| times the cutoff beyond which the gain is below TAIL."""
    if kind == "butterworth":
        return (1 / TAIL**2 - 1) ** (0.5 / order)
    return math.sqrt(2 * math.log2(1 / TAIL)) if kind == "gaussian" else 1.0


def _shared_gain(volume: Tensor, weight: Tensor | None) -> Tensor:
    """A weight per shell (d//2 + 1,) as a gain per |k|^2, corners 0; ones without."""
    if weight is None:
        return torch.ones_like(wave_numbers(volume.shape[-1], volume.device))
    return per_wave_number(weight, volume)


def _filtered(transform: Tensor, gain: Tensor, size: int) -> Tensor:
    """A half transform times a gain per |k|^2, back on a grid of ``size`` points over the same edge."""
    product = multiply_radial_(_resized(transform, size), gain)
    # irfftn in two steps: the product goes before the result comes
    product = torch.fft.ifftn(product, dim=(0, 1), norm="forward")
    return torch.fft.irfft(product, n=size, dim=-1, norm="forward")


def _smoothed(values: Tensor, gain: Tensor, size: int) -> Tensor:
    transform = torch.fft.rfftn(values, norm="forward")
    return _filtered(transform, gain, size)


def _resized(transform: Tensor, size: int) -> Tensor:
    """A copy of a half transform (n, n, n//2 + 1) cropped or zero-padded to a grid of ``size`` points.

    Point 0 is in the same place on all grids, so that even and odd ones agree.
    """
    old = len(transform)
    if size == old:
        return transform.clone()
    keep = (min(size, old) - 1) // 2
    out = transform.new_zeros(size, size, size // 2 + 1)
    ends = (slice(0, keep + 1), slice(-keep, None))
    for z in ends:
        for y in ends:
            out[z, y, : keep + 1] = transform[z, y, : keep + 1]
    return out


def _nearest(values: Tensor, size: int) -> Tensor:
    """Values (d, d, d) at the points nearest to those of a grid of ``size`` points over the same edge."""
    box = values.shape[-1]
    i = (torch.arange(size, device=values.device) * box / size).round().long() % box
    return values[i][:, i][:, :, i]


def _enlarged(values: Tensor, box: int) -> Tensor:
    """Values on a grid over the same edge, periodic, interpolated linearly to ``box`` points."""
    if len(values) == box:
        return values
    closed = pad(values[None, None], (0, 1) * 3, mode="circular")
    fine = interpolate(closed, size=(box + 1,) * 3, mode="trilinear", align_corners=True)
    return fine[0, 0, :-1, :-1, :-1].contiguous()


def _fast_length(n: int) -> int:
    """The next number that Fourier transforms are fast at."""
    return next_fast_len(n)  # pyright: ignore[reportReturnType]
