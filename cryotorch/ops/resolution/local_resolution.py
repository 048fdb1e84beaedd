"""Local resolution from half maps, and the low-pass that follows it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from cryotorch.ops.fourier.filters import filter_shells, low_pass, radial_amplitude
from cryotorch.ops.fourier.transforms import resize_volume

BAND_STEP = 1.12  # from one band to the next finer one
BAND_WIDTH = 1.35  # a band goes from centre / BAND_WIDTH to centre * BAND_WIDTH: narrower ones blur more in space
WINDOW_SIGMA = 1.0  # standard deviation of the window, in wavelengths of the band
COARSEST_BAND = 25.0  # Å
MIN_WAVES = 4  # of the coarsest band along the box
NOISE_SCATTER = 0.08  # standard deviation of the local FSC of pure noise
MIN_WINDOW_SHARE = 0.01  # share of the window within the mask below which there is nothing to judge


def local_resolution(
    half_maps: Tensor,
    pixel_size: float,
    mask: Tensor | None = None,
    threshold: float = 0.5,
    coarsest: float = COARSEST_BAND,
    finest: float | None = None,
) -> Tensor:
    """The resolution in Å around each voxel (d, d, d) of two half maps (2, d, d, d).

    Both maps, their shells brought to equal power, are band-passed around one frequency after the
    other (each 12 % above the last); u and v are the results, G a Gaussian window and m the mask:

        C(x) = 2 G[m u v] / G[m (u^2 + v^2)]

    is the FSC of the band around x (Cardone et al. 2013, doi:10.1016/j.jsb.2013.08.002). The
    resolution is where C, interpolated between the bands, first falls below ``threshold``; at best
    ``finest`` (default: two pixels), at worst ``coarsest``, which is also said where the mask is
    far. The mask only weighs, so that solvent near the surface does not count.

    The window has a standard deviation of one wavelength: it sees as much as a ball 4.4 wavelengths
    wide, about 170 independent coefficients of the band, so that C of pure noise scatters by 0.08,
    and more where the mask cuts the window. Noise passes 0.143 by chance in one window of thirty;
    0.5 it does not pass. Larger windows let a sharp part speak for its blurred neighbours.
    ValueError for a threshold outside 0 .. 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(
            f"The threshold of the local FSC must lie between 0 and 1, got {threshold:g}."
        )
    box, edge = half_maps.shape[-1], half_maps.shape[-1] * pixel_size
    shells = _bands(edge, coarsest_band(edge, coarsest), max(finest or 0, 2 * pixel_size))
    maps = torch.stack([filter_shells(m, 1 / _amplitude(m)) for m in half_maps])
    weight = torch.ones_like(maps[0]) if mask is None else mask.to(maps)
    found = torch.full_like(maps[0], shells[-1])
    finer = None
    for place in reversed(range(len(shells))):  # the maps shrink on the way to coarser bands
        size = min(box, 8 * math.ceil((2 * BAND_WIDTH * shells[place] + 2) / 8))
        maps, weight = resize_volume(maps, size), resize_volume(weight, size)
        here = _enlarge(_correlation(maps, weight, shells[place]), box)
        if finer is not None:
            falls = (here >= threshold) & (finer < threshold)
            share = (here[falls] - threshold) / (here[falls] - finer[falls])
            found[falls] = shells[place] + (shells[place + 1] - shells[place]) * share
        finer = here
    assert finer is not None  # there is a band
    found[finer < threshold] = shells[0]
    return edge / found


def coarsest_band(edge: float, coarsest: float = COARSEST_BAND) -> float:
    """Å of the coarsest band in a box of ``edge`` Å: four waves of it must fit."""
    return min(coarsest, edge / MIN_WAVES)


def _bands(edge: float, coarsest: float, finest: float) -> list[float]:
    """Centres in Fourier pixels from ``coarsest`` to ``finest`` Å, evenly on a logarithmic scale."""
    first, last = edge / max(coarsest, finest), edge / finest
    steps = max(1, round(math.log(last / first) / math.log(BAND_STEP)))
    return [first * (last / first) ** (i / steps) for i in range(steps + 1)]


def _amplitude(volume: Tensor) -> Tensor:
    """Mean |F| per shell, not zero."""
    amplitude = radial_amplitude(volume)
    return amplitude.clamp(min=1e-9 * float(amplitude.max()) + 1e-30)


def _correlation(maps: Tensor, weight: Tensor, centre: float) -> Tensor:
    """C of the band around ``centre`` Fourier pixels, (d, d, d); 0 outside the mask."""
    box = maps.shape[-1]
    k = torch.fft.fftfreq(box, 1 / box, device=maps.device).square()
    half = torch.arange(box // 2 + 1, dtype=torch.float32, device=maps.device).square()
    k = (k[:, None, None] + k[None, :, None] + half).sqrt_().div_(centre)
    distance = k.clamp(min=1e-3).log_().abs_().div_(math.log(BAND_WIDTH)).clamp_(max=1)
    band = distance.mul_(math.pi / 2).cos_().square_().mul_(k <= box / 2 / centre)
    # exp(-2 pi^2 sigma^2 k^2), sigma = WINDOW_SIGMA wavelengths and k in units of the band's centre
    window = k.square_().mul_(-2 * (math.pi * WINDOW_SIGMA) ** 2).exp_()

    def filtered(values: Tensor, gain: Tensor) -> Tensor:
        return torch.fft.irfftn(torch.fft.rfftn(values).mul_(gain), s=(box,) * 3)

    u, v = (filtered(m, band) for m in maps)
    both = filtered((u * v).mul_(weight), window).mul_(2)
    power = filtered(u.square_().add_(v.square_()).mul_(weight), window)
    # transforms leave 1e-7 of the largest value everywhere
    nothing = (filtered(weight, window) <= MIN_WINDOW_SHARE) | (power <= 1e-5 * power.max())
    return both.div_(power).masked_fill_(nothing, 0)


def _enlarge(values: Tensor, box: int) -> Tensor:
    """Values on a coarser grid over the same edge, periodic, interpolated linearly to ``box`` voxels.

    With an odd box the grids are half a fine voxel apart, which a window of many does not feel.
    """
    if values.shape[-1] == box:
        return values
    closed = pad(values[None, None], (0, 1) * 3, mode="circular")
    fine = interpolate(closed, size=(box + 1,) * 3, mode="trilinear", align_corners=True)
    return fine[0, 0, :-1, :-1, :-1]


def local_low_pass(volume: Tensor, pixel_size: float, resolution: Tensor) -> Tensor:
    """A volume (d, d, d) low-passed to the resolution (d, d, d) in Å that holds around each voxel.

    A Butterworth filter of order 8, as in ``filters.low_pass``: each voxel is blended from the two of
    a bank (cut-offs 12 % apart) whose cut-offs enclose its own.
    """
    best, worst = float(resolution.min()), float(resolution.max())
    if worst <= best * (1 + 1e-6):
        return low_pass(volume, pixel_size, best)
    steps = math.ceil(math.log(worst / best) / math.log(BAND_STEP))
    place = (resolution / best).log_() * (steps / math.log(worst / best))  # 0 .. steps
    out = torch.zeros_like(volume)
    for i in range(steps + 1):
        share = (1 - (place - i).abs()).clamp(min=0)
        out += share * low_pass(volume, pixel_size, best * (worst / best) ** (i / steps))
    return out
