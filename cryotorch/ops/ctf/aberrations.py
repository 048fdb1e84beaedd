"""Aberrations beyond defocus and Cs: what they add to the phase of an image's transform, in RELION's coefficients.

Zernike functions here are of the frequency k in 1/Å itself, not of a unit disc: Z = R_n^|m|(k) cos m phi for m >= 0 and
R_n^|m|(k) sin |m| phi for m < 0 (Zivanov, Nakane & Scheres 2020, doi:10.1107/S2052252520000081).
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial, isqrt

import torch
from torch import Tensor

from cryotorch.ops.ctf.transfer import wavelength


def even_order(place: int) -> tuple[int, int]:
    """(m, n) of the symmetric coefficient number ``place``: (0,0), (-2,2), (0,2), (2,2), (-4,4) ..."""
    q = isqrt(place)
    return 2 * (place - q * q - q), 2 * q


def odd_order(place: int) -> tuple[int, int]:
    """(m, n) of the antisymmetric coefficient number ``place``: (-1,1), (1,1), (-3,3), (-1,3), (1,3), (3,3) ..."""
    q = (isqrt(1 + 4 * place) + 1) // 2
    n = 2 * q - 1
    return 2 * (place - q * q + q) - n, n


def zernike(frequency: Tensor, m: int, n: int) -> Tensor:
    """One function (*b,) at frequencies (*b, 2) in 1/Å."""
    kx, ky = frequency.unbind(-1)
    k2 = kx * kx + ky * ky
    order = abs(m)
    # k^|m| exp(i |m| phi), by products: no arctangent
    re, im = torch.ones_like(kx), torch.zeros_like(kx)
    for _ in range(order):
        re, im = re * kx - im * ky, re * ky + im * kx
    radial = torch.zeros_like(kx)
    for s in range((n - order) // 2 + 1):
        divisor = factorial(s) * factorial((n + order) // 2 - s) * factorial((n - order) // 2 - s)
        radial = radial + (-1) ** s * factorial(n - s) // divisor * k2 ** ((n - order) // 2 - s)
    return radial * (re if m >= 0 else im)


def symmetric_phase(frequency: Tensor, even: Tensor) -> Tensor:
    """sum c Z (b, m), which is subtracted from chi: CTF = sin(chi - phase).

    frequency (m, 2) or (b, m, 2) in 1/Å; even (b, e) rad.
    """
    return _sum(frequency, even, even_order)


def antisymmetric_phase(
    frequency: Tensor,
    beam_tilt: Tensor | None,
    odd: Tensor | None,
    voltage_kv: Tensor,
    spherical_aberration: Tensor,
) -> Tensor:
    """phi (b, m): the prediction is multiplied by exp(+i phi).

    phi = sum c Z - 2 pi Cs lambda^2 k^2 (k . tilt). Shapes: frequency (m, 2) or (b, m, 2) in 1/Å; beam_tilt (b, 2) mrad;
    odd (b, o) rad; kV and Cs in mm (b,).
    """
    shape = (len(voltage_kv), frequency.shape[-2])
    phase = torch.zeros(shape, dtype=frequency.dtype, device=frequency.device)
    if odd is not None:
        phase = phase + _sum(frequency, odd, odd_order)
    if beam_tilt is not None:
        cs = spherical_aberration * 1e7  # Å
        factor = -2 * torch.pi * cs * wavelength(voltage_kv) ** 2 * 1e-3
        along = (frequency * beam_tilt[:, None]).sum(-1)
        phase = phase + factor[:, None] * frequency.square().sum(-1) * along
    return phase


def _sum(
    frequency: Tensor, coefficients: Tensor, order: Callable[[int], tuple[int, int]]
) -> Tensor:
    functions = [zernike(frequency, *order(i)) for i in range(coefficients.shape[1])]
    terms = (c[:, None] * z for c, z in zip(coefficients.T, functions, strict=True))
    return sum(terms, coefficients.new_zeros(()))
