"""Aberrations that an optics group shares, from sums over its images: odd, even, and anisotropic magnification.

They are fitted as monomials k^n cos m phi, k^n sin m phi of the frequency in 1/Å, which ``ops.ctf.aberrations`` knows as Zernike
coefficients (Zivanov, Nakane & Scheres 2020, doi:10.1107/S2052252520000081). All values are relative to what the images came with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.ctf.transfer import wavelength

# Of the highest frequency: large phases are followed outwards.
FREQUENCY_LIMITS = (0.4, 0.5, 0.63, 0.8, 1.0)
STEPS = 12
SHARPEST = 4.0  # times as curved as expected may be a maximum that is no noise
# (n, m) of the functions, each as cosine and sine but for m = 0. Shift and astigmatism come along because poses and
# defocus were found with the aberration in the images and have taken up as much of it as they could.
ODD = {"shift": (1, 1), "tilt": (3, 1), "trefoil": (3, 3)}
EVEN = {
    "spherical": (4, 0),
    "tetrafoil": (4, 4),
    "secondary_astigmatism": (4, 2),
    "astigmatism": (2, 2),
}


@dataclass(frozen=True)
class Fit:
    """Values (*b, p) and their covariance (*b, p, p), float64."""

    value: Tensor
    covariance: Tensor

    @property
    def sigma(self) -> Tensor:
        """Standard errors (*b, p)."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()

    def phase_sigma(self, basis: Tensor, places: list[int]) -> float:
        """Standard error of the phase that some of the values make, where it is largest; basis (m, p)."""
        part, covariance = basis[:, places], self.covariance[places][:, places]
        return float(((part @ covariance) * part).sum(1).clamp_min(0).max().sqrt())


def monomials(frequency: Tensor, orders: list[tuple[int, int]]) -> Tensor:
    """k^n cos m phi and k^n sin m phi (m > 0), or k^n, for each (n, m): columns (points, p) float64, frequency (points, 2) 1/Å."""
    kx, ky = frequency.double().unbind(-1)
    k2, turn = kx * kx + ky * ky, torch.complex(kx, ky)
    columns = []
    for n, m in orders:
        both = k2 ** ((n - m) // 2) * turn**m
        columns += [both.real, both.imag] if m else [both.real]
    return torch.stack(columns, -1)


def fit_odd(cross: Tensor, power: Tensor, basis: Tensor, radius: Tensor) -> Fit:
    """The phases phi = basis @ value that maximise sum Re(S e^{i phi}).

    Args:
        cross: (m,) complex, S = sum over images of w conj(y) f; power: (m,) sum of w |f|^2, f the predictions without phi.
        basis: (m, p) odd functions; radius: (m,) |k|.

    The covariance is H^-1 (power / 2) H^-1 with the curvature H, which is right also where the prediction's grey scale is not.
    """
    length = basis.norm(dim=0).clamp_min(1e-300) / len(basis) ** 0.5
    basis = basis / length
    cross, power = cross.to(torch.complex128), power.double()
    value = basis.new_zeros(basis.shape[1])
    for part in FREQUENCY_LIMITS:
        inner = radius <= part * radius.max() * (1 + 1e-6)
        if int(inner.sum()) > 4 * basis.shape[1]:
            value = _climb(cross[inner], power[inner], basis[inner], value)
    turned = cross * torch.polar(torch.ones_like(power), basis @ value)
    noise = (basis.T * (0.5 * power)) @ basis
    curvature = (basis.T * turned.real) @ basis
    # where there is hardly any signal, the highest peak of the noise is sharp
    if not 0 < _ratio(curvature, 2 * noise) < SHARPEST:
        curvature = 2 * noise
    inverse = torch.linalg.pinv(curvature, hermitian=True)
    covariance = inverse @ noise @ inverse
    return Fit(value / length, covariance / length / length[:, None])


def _ratio(matrix: Tensor, expected: Tensor) -> float:
    """The mean ratio of two curvatures; negative where the first is none of a maximum."""
    values = torch.linalg.eigvals(torch.linalg.lstsq(expected, matrix).solution).real
    return float(values.mean()) if bool((values > 0).all()) else -1.0


def _climb(cross: Tensor, power: Tensor, basis: Tensor, value: Tensor) -> Tensor:
    """Damped steps with the expected curvature to the next maximum of ``fit_odd``'s sum."""

    def turned(value: Tensor) -> Tensor:
        return cross * torch.polar(torch.ones_like(power), basis @ value)

    normal = (basis.T * power) @ basis
    ridge = torch.diag(normal.diagonal().clamp_min(1e-300))
    now, damping = turned(value), 1e-2
    for _ in range(STEPS):
        step = torch.linalg.solve(normal + damping * ridge, -(basis.T @ now.imag))
        trial = turned(value + step)
        if trial.real.sum() > now.real.sum():
            value, now, damping = value + step, trial, damping / 5
        else:
            damping *= 5
    return value


def fit_linear(gradient: Tensor, normal: Tensor) -> Fit:
    """One Gauss-Newton step: normal^-1 gradient, covariance normal^-1 / 2, gradient (*b, p) and normal (*b, p, p) of a score."""
    length = normal.double().diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).sqrt()
    scale = length[..., None] * length[..., None, :]
    inverse = torch.linalg.pinv(normal.double() / scale, hermitian=True) / scale
    return Fit((inverse @ gradient.double()[..., None])[..., 0], inverse / 2)


def tilt_factor(voltage_kv: float, spherical_aberration: float) -> float:
    """Coefficient of k^3 cos phi, rad Å^3, per mrad of beam tilt: -2 pi Cs lambda^2, Cs in mm."""
    lam = float(wavelength(torch.tensor(voltage_kv, dtype=torch.float64)))
    return -2 * torch.pi * spherical_aberration * 1e7 * lam**2 * 1e-3


def spherical_factor(voltage_kv: float) -> float:
    """Coefficient of k^4, rad Å^4, per mm of spherical aberration: CTF = sin(chi - phase), phase = pi/2 Cs lambda^3 k^4."""
    lam = float(wavelength(torch.tensor(voltage_kv, dtype=torch.float64)))
    return torch.pi / 2 * 1e7 * lam**3


def odd_zernike(coefficients: dict[str, Tensor]) -> Tensor:
    """RELION's six antisymmetric coefficients of monomials named as in ``ODD``: (6,) from (cosine, sine), each (2,).

    With Z(1, 3) = (3 k^3 - 2 k) cos phi, k^3 cos phi = Z(1, 3) / 3 + 2 Z(1, 1) / 3.
    """
    zero = torch.zeros(2, dtype=torch.float64)
    shift, tilt, trefoil = (coefficients.get(name, zero) for name in ODD)
    first = shift + 2 / 3 * tilt
    return torch.stack([first[1], first[0], trefoil[1], tilt[1] / 3, tilt[0] / 3, trefoil[0]])


def even_zernike(coefficients: dict[str, Tensor]) -> Tensor:
    """RELION's nine symmetric coefficients of monomials named as in ``EVEN``, spherical left out: (9,) from (2,) each.

    With Z(2, 4) = (4 k^4 - 3 k^2) cos 2 phi, k^4 cos 2 phi = Z(2, 4) / 4 + 3 Z(2, 2) / 4.
    """
    zero = torch.zeros(2, dtype=torch.float64)
    names = ("tetrafoil", "secondary_astigmatism", "astigmatism")
    four, two, first = (coefficients.get(name, zero) for name in names)
    first, none = first + 3 / 4 * two, zero[0]
    return torch.stack(
        [none, first[1], none, first[0], four[1], two[1] / 4, none, two[0] / 4, four[0]]
    )
