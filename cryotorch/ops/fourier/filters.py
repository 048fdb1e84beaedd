"""Radial filters, the Guinier fit and sharpening."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.fourier.transforms import multiply_radial_, shell_count, shell_sum, wave_numbers
from cryotorch.ops.host import to_device
from cryotorch.results import Guinier

SMALLEST_CORRELATION = 1e-4  # FSC below which a shell is taken to hold nothing
MOST_CORRELATED = 0.9  # residuals of next shells: beyond that few shells tell no correlation


def low_pass(
    volume: Tensor, pixel_size: float, resolution: float, kind: str = "butterworth", order: int = 8
) -> Tensor:
    """A volume (*b, d, d, d) without what is finer than ``resolution`` Å.

    With q = |k| * resolution: butterworth 1 / sqrt(1 + q^(2 order)); gaussian 2^(-q^2 / 2);
    rectangular q <= 1. The two smooth ones have the gain 1/sqrt(2) at the resolution.
    """
    box = volume.shape[-1]
    q = wave_numbers(box, volume.device) * (resolution / (box * pixel_size))
    return _multiply(volume, low_pass_gain(q, kind, order))


def high_pass(
    volume: Tensor, pixel_size: float, resolution: float, kind: str = "butterworth", order: int = 8
) -> Tensor:
    """A volume (*b, d, d, d) without what is coarser than ``resolution`` Å, its mean included.

    The gain is sqrt(1 - g^2) with g that of ``low_pass``: the two share the power between them, and
    the smooth ones have the gain 1/sqrt(2) at the resolution.
    """
    box = volume.shape[-1]
    q = wave_numbers(box, volume.device) * (resolution / (box * pixel_size))
    return _multiply(volume, (1 - low_pass_gain(q, kind, order).square()).sqrt())


def low_pass_gain(q: Tensor, kind: str, order: int) -> Tensor:
    """The gain of a low-pass filter at ``q``, frequencies in units of its cut-off, any shape; ValueError for a ``kind`` that there is not."""
    if kind == "butterworth":
        return (1 + q ** (2 * order)).rsqrt()
    if kind == "gaussian":
        return torch.exp2(-q.square() / 2)
    if kind == "rectangular":
        return (q <= 1 + 1e-6).to(q)
    raise ValueError(f"A filter is butterworth, gaussian or rectangular, got {kind!r}.")


def filter_shells(volume: Tensor, weight: Tensor) -> Tensor:
    """A volume (*b, d, d, d), each Fourier shell times ``weight`` (d//2 + 1,), corners times 0."""
    return _multiply(volume, per_wave_number(weight, volume))


def radial_amplitude(volume: Tensor) -> Tensor:
    """Mean |F| per shell (d//2 + 1,) of a volume (d, d, d); F is the unnormalised transform."""
    box = volume.shape[-1]
    amplitude = torch.fft.rfftn(volume, dim=(-3, -2, -1)).abs()
    return shell_sum(amplitude, box) / shell_count(box, volume.device)


def whitened(volume: Tensor, least: float = 0.02) -> Tensor:
    """A volume (d, d, d) with the same mean |F| in all shells, from 1 up to the first below ``least`` of the largest; 0 beyond."""
    return filter_shells(volume, whitening(volume, least))


def whitening(volume: Tensor, least: float = 0.02) -> Tensor:
    """The gains (d//2 + 1,) that make a volume (d, d, d) ``whitened``."""
    amplitude = radial_amplitude(volume)
    amplitude[0] = 0
    fallen = torch.nonzero(amplitude[1:] < least * amplitude.max())
    last = int(fallen[0]) if len(fallen) else len(amplitude) - 1
    gain = torch.zeros_like(amplitude)
    gain[1 : last + 1] = amplitude.max() / amplitude[1 : last + 1]
    return gain


def fsc_weight(curve: Tensor) -> Tensor:
    """Correlation of the merged map with the truth, sqrt(2 F / (1 + F)), from a half-map FSC (s,).

    Zero from the first shell with F < 0.0001 on. Rosenthal and Henderson 2003,
    doi:10.1016/j.jmb.2003.07.013.
    """
    present = (~(curve >= SMALLEST_CORRELATION)).cumsum(0) == 0
    correlation = torch.where(present, curve, 0.0).clamp(0, 1)
    return (2 * correlation / (1 + correlation)).sqrt()


def guinier_fit(
    volume: Tensor, curve: Tensor, pixel_size: float, resolution: float, coarsest: float = 10.0
) -> Guinier:
    """The B-factor of a merged map (d, d, d) with half-map FSC (d//2 + 1,).

        ln( sqrt(2F/(1+F)) mean |F(k)| ) = intercept + slope / d^2,      bfactor = 4 slope

    over the shells from ``coarsest`` Å to ``resolution`` Å; Rosenthal and Henderson 2003. Map and
    curve must have been under the same mask, or noise of the solvent passes for signal. Shells
    without signal have a log amplitude of NaN. Refused (bfactor None, a reason) where the
    resolution is worse than ``coarsest`` or fewer than 5 shells are left.
    """
    box = volume.shape[-1]
    weighted = fsc_weight(curve.double()) * radial_amplitude(volume).to(curve.device)
    shell = torch.arange(len(curve), dtype=torch.float64, device=curve.device)
    first, last = box * pixel_size / coarsest, box * pixel_size / resolution
    used = (shell >= first - 1e-6) & (shell <= last + 1e-6) & (weighted > 0)
    x = (shell / (box * pixel_size)).square()
    y = torch.where(weighted > 0, weighted.log(), math.nan)
    bfactor, intercept, reason, error = None, math.nan, None, None
    if resolution > coarsest:
        reason = Finding("fit_coarse", resolution=resolution, coarsest=coarsest)
    elif used.sum() < 5:
        between = dict(coarsest=coarsest, resolution=resolution)
        reason = Finding("fit_short", shells=int(used.sum()), **between)
    else:
        centred = x[used] - x[used].mean()
        slope = float((centred * y[used]).sum() / centred.square().sum())
        bfactor, intercept = 4 * slope, float(y[used].mean()) - slope * float(x[used].mean())
        left = y[used] - intercept - slope * x[used]
        scatter = left.square().sum() / (int(used.sum()) - 2)
        error = 4 * float((scatter / centred.square().sum()).sqrt()) * _inflation(left)
    return Guinier(x.float(), y.float(), used, bfactor, intercept, reason, error)


def _inflation(left: Tensor) -> float:
    """By how much the standard error of a slope grows as its residuals (s,) go together from shell to shell: sqrt((1 + r) / (1 - r)).

    r is their correlation with the next one, 0 at least: the structure bends a Guinier plot over several shells.
    """
    r = float((left[1:] * left[:-1]).sum() / left.square().sum().clamp_min(1e-30))
    r = min(max(r, 0.0), MOST_CORRELATED)
    return math.sqrt((1 + r) / (1 - r))


def sharpen(
    volume: Tensor,
    pixel_size: float,
    bfactor: float,
    curve: Tensor | None,
    resolution: float,
    order: int = 8,
) -> Tensor:
    """A merged map (d, d, d) weighted and sharpened for the eye.

        F(k) * sqrt(2 FSC / (1 + FSC)) * exp(-B k^2 / 4) / sqrt(1 + (k * resolution)^(2 order))

    ``bfactor`` in Å², negative sharpens; ``curve`` (d//2 + 1,) half-map FSC; ``resolution`` in Å.
    Without a curve there is no FSC weight, and the exponential stays from the resolution on what it
    is there: in a finely sampled map it would outgrow any Butterworth filter.
    """
    box = volume.shape[-1]
    k = wave_numbers(box, volume.device) / (box * pixel_size)
    gain = low_pass_gain(k * resolution, "butterworth", order)
    if curve is None:
        capped = k.clamp(max=1 / resolution)
        return _multiply(volume, gain * torch.exp(-bfactor / 4 * capped.square()))
    weight = per_wave_number(fsc_weight(curve), volume)
    gain = gain * torch.exp(-bfactor / 4 * k.square())
    # where nothing is left the exponential may be infinite, and 0 * inf would spoil the whole map
    return _multiply(volume, torch.where(weight > 0, weight * gain, 0.0))


def per_wave_number(weight: Tensor, volume: Tensor) -> Tensor:
    """A weight per shell (d//2 + 1,) for every |k| of ``wave_numbers``, corners 0. Raises ValueError for a weight of another length."""
    box = volume.shape[-1]
    if len(weight) != box // 2 + 1:
        raise ValueError(f"A box of {box} has {box // 2 + 1} shells, got {len(weight)} weights.")
    k = wave_numbers(box, volume.device)
    weight = torch.cat([to_device(weight, k.device, k.dtype), k.new_zeros(1)])
    return weight[(k + 0.5).long().clamp(max=len(weight) - 1)]


def _multiply(volume: Tensor, gain: Tensor) -> Tensor:
    """Multiply the transform by a real gain per |k|^2, for which the origin does not matter."""
    if volume.dim() > 3:
        return torch.stack([_multiply(one, gain) for one in volume])
    return back_(torch.fft.rfftn(volume), gain)


def back_(transform: Tensor, gain: Tensor) -> Tensor:
    """The volume (d, d, d) of a half transform (d, d, d//2 + 1) times a real gain (q,) per |k|^2; the transform is overwritten."""
    # irfftn in two steps: the product goes before the result comes
    product = torch.fft.ifftn(multiply_radial_(transform, gain), dim=(0, 1))
    return torch.fft.irfft(product, n=len(transform))
