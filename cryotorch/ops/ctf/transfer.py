"""The contrast transfer function."""

from __future__ import annotations

import torch
from torch import Tensor


def wavelength(voltage_kv: Tensor) -> Tensor:
    """Relativistic electron wavelength in Å, of kV in any shape.

    lambda = h / sqrt(2 m e V (1 + e V / 2 m c^2)); 12.2643247 = h / sqrt(2 m e) in Å V^1/2 and
    0.978466e-6 = e / (2 m c^2) in 1/V.
    """
    volt = voltage_kv * 1e3
    return 12.2643247 / torch.sqrt(volt * (1 + 0.978466e-6 * volt))


def delocalisation(defocus: Tensor, voltage_kv: Tensor) -> Tensor:
    """lambda |df| (b,) in Å²: signal of frequency k (1/Å) lies up to this times k away from where it belongs.

    The gradient of chi / 2 pi by k without the spherical aberration (Downing & Glaeser 2008, doi:10.1016/j.ultramic.2007.09.009).
    Shapes as for ``contrast_transfer``: defocus (b, 3), voltage (b,).
    """
    return wavelength(voltage_kv) * defocus[:, :2].mean(1).abs()


def contrast_transfer(
    frequency: Tensor,
    defocus: Tensor,
    phase_shift: Tensor,
    voltage_kv: Tensor,
    spherical_aberration: Tensor,
    amplitude_contrast: Tensor,
    symmetric: Tensor | None = None,
) -> Tensor:
    """CTF = sin(chi), chi = pi lambda df(k) k^2 - pi/2 Cs lambda^3 k^4 + phase_shift + asin(amplitude_contrast) - symmetric.

    df(k) = (u + v)/2 + (u - v)/2 cos 2(angle(k) - angle_u), underfocus positive. RELION's sign: the value at
    k = 0 is +amplitude_contrast (Rohou & Grigorieff 2015, doi:10.1016/j.jsb.2015.08.008, with opposite sign).

    Shapes: frequency (m, 2), or (b, m, 2) where it differs between images, in 1/Å; defocus (b, 3) as defocus_u Å, defocus_v Å, angle rad; the rest (b,): phase
    shift in radians, kV, Cs in mm, amplitude contrast in [0, 1]; symmetric (b, m) is ``aberrations.symmetric_phase``. Returns (b, m).
    """
    kx, ky = frequency.unbind(-1)
    k2 = kx * kx + ky * ky
    lam = wavelength(voltage_kv.double())[:, None]
    u, v, angle = (column[:, None] for column in defocus.double().unbind(-1))
    # df(k) k^2 is a quadratic form in (kx, ky): three products per coefficient instead of an arctangent
    mean, half = (u + v) / 2, (u - v) / 2
    xx, yy = mean + half * torch.cos(2 * angle), mean - half * torch.cos(2 * angle)
    xy = 2 * half * torch.sin(2 * angle)
    pi = torch.pi
    quartic = -pi / 2 * spherical_aberration.double()[:, None] * 1e7 * lam**3
    constant = phase_shift.double()[:, None] + torch.asin(amplitude_contrast.double())[:, None]
    coefficients = torch.cat([pi * lam * xx, pi * lam * xy, pi * lam * yy, quartic, constant], 1)
    basis = torch.stack([kx * kx, kx * ky, ky * ky, k2 * k2, torch.ones_like(k2)], -2).double()
    chi = (coefficients[:, None] @ basis)[:, 0] if basis.dim() == 3 else coefficients @ basis
    if symmetric is not None:
        chi = chi - symmetric
    return torch.sin(chi).to(frequency.dtype)
