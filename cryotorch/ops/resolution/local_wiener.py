"""A Wiener filter that knows where the signal is: strong in the solvent, weak where half maps share more than on average.

The global filter takes signal and noise to be spread alike over the map, but the noise of a reconstruction fills the box and the
signal does not. Here the signal power is a spectrum times a share that differs from place to place,

    S(x, k) = share(x) S(k),     gain(x, k) = n share SNR / (1 + n share SNR),     SNR = F / (1 - F) of a half map,

which at share 1 is the filter of Scheres 2012 (doi:10.1016/j.jmb.2011.11.010) and at share 0 a mask. One number per place is all that
is estimated, from all shells together, so that little noise comes in with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import back_, filter_shells, per_wave_number, radial_amplitude
from cryotorch.ops.fourier.transforms import slabs
from cryotorch.ops.host import to_device

COARSEST_SHELL = 20.0  # Å: coarser shells say where the particle is, not where it is sharp
MIN_SHELLS = 3  # shells that the share rests on
MIN_FSC = 0.05  # FSC below which a shell says nothing
# Shares whose filters are made, a factor of 6 apart; between them maps are mixed, which is wrong by 0.04 of the gain at most.
SHARES = (1 / 36, 1 / 6, 1.0, 6.0)


def signal_share(
    half_maps: Tensor, pixel_size: float, curve: Tensor, mask: Tensor, window: float = 2.0
) -> Tensor | None:
    """The signal power at each place (d, d, d), in units of its mean in a mask; None where the FSC is too coarse to say.

    The product of both half maps, where noise averages to zero, each with its shells weighted by sqrt(F / P), F the FSC and P the
    power, as the power of signal that stands in white noise is found best. It is averaged over a Gaussian with the variance of a ball
    ``window`` wavelengths wide, of the mean shell; what is negative is 0.

    Args:
        half_maps: (2, d, d, d), of independent noise.
        pixel_size: Å.
        curve: (d // 2 + 1,) their FSC in the mask.
        mask: (d, d, d) where the share is 1 on average.
    """
    edge = half_maps.shape[-1] * pixel_size
    shell = torch.arange(len(curve), dtype=torch.float64)
    f = curve.double().cpu()
    told = (~(f >= MIN_FSC)).cumsum(0) == 0
    f = torch.where(told & (shell >= edge / COARSEST_SHELL), f, 0.0).clamp(0, 1)
    if int((f > 0).sum()) < MIN_SHELLS:
        return None
    amplitude = radial_amplitude(half_maps.mean(0) * mask).double().cpu()
    weight = torch.where(f > 0, f.sqrt() / amplitude.clamp_min(1e-300), 0.0)
    weight = (weight / weight.max()).float()
    product = filter_shells(half_maps[0], weight)
    product *= filter_shells(half_maps[1], weight)
    information = shell.square() * f
    wavelength = edge * float(information.sum() / (information * shell).sum())
    sigma = window * wavelength / math.sqrt(20)
    average = torch.exp(-2 * (math.pi * sigma / edge * shell).square()).float()
    power = filter_shells(product, average)
    usual = float((power * mask).sum(dtype=torch.float64) / mask.sum(dtype=torch.float64))
    return power.div_(usual).clamp_(min=0) if usual > 0 else None


def local_wiener(volume: Tensor, curve: Tensor, share: Tensor | None, n_halves: int) -> Tensor:
    """A map (d, d, d) of one or two half sets, filtered by the gain above.

    Args:
        curve: (d // 2 + 1,) FSC of the half maps, kept within 0.001 and 0.999.
        share: (d, d, d) of ``signal_share``; None = 1 everywhere, the global filter.
        n_halves: 1 for a half map, 2 for the map of both.
    """
    f = to_device(curve.double().clamp(0.001, 0.999), volume.device)
    snr = n_halves * f / (1 - f)
    if share is None:
        return filter_shells(volume, (snr / (1 + snr)).to(volume))
    transform, out = torch.fft.rfftn(volume), torch.zeros_like(volume)
    level = share.clamp(SHARES[0], SHARES[-1]).log_()
    step = math.log(SHARES[1] / SHARES[0])
    for value in SHARES:
        gain = per_wave_number((value * snr / (1 + value * snr)).to(volume), volume)
        filtered = back_(transform.clone(), gain)
        for total, part, place in zip(*map(slabs, (out, filtered, level)), strict=True):
            total += (1 - (place - math.log(value)).abs_() / step).clamp_(min=0).mul_(part)
    return out
