"""From what a CTF refinement found to particles and optics with new values, in the units of the files."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.ctf.aberration_fit import (
    even_zernike,
    fit_linear,
    odd_zernike,
    spherical_factor,
    tilt_factor,
)
from cryotorch.ops.ctf.defocus_fit import from_form, stretched, to_form
from cryotorch.particles import Optics, Particles
from cryotorch.refinement.ctf.sums import CtfSums, GroupFit

MIN_CS = 0.1  # mm: with less, a coma is none of a beam tilt, and is kept as Zernike coefficients


@dataclass(frozen=True)
class Refined:
    """What a pass found.

    Attributes:
        particles: with new defocus, optics, and shifts (poses had made up for some of the beam tilt).
        start: the same with the defocus that they came with, for another pass.
        sigma: (n, 3) Å, standard errors of mean defocus and astigmatism, as in ``defocus_fit.to_form``; 0 where not fitted.
        at_end: (n,) bool, the search for the defocus ended at its border; prior: Å, spread of the defocus errors.
        groups: one for each optics group.
    """

    particles: Particles
    start: Particles
    sigma: Tensor
    at_end: Tensor
    groups: list[GroupFit]
    prior: float


def apply(
    particles: Particles,
    begun: Particles,
    sums: CtfSums,
    groups: list[GroupFit],
    micrograph: Tensor | None,
    prior: float,
) -> Refined:
    """Change particles and their optics by what a pass found; ``begun``: with the defocus that changes are counted from; ``micrograph`` (n,) int64 as for ``CtfPass``."""
    base, sigma = to_form(begun.defocus.double()), sums.sigma.clone()
    if micrograph is not None:
        fits = fit_linear(sums.astigmatism_gradient, sums.astigmatism_normal)
        base[:, 1:] += fits.value[micrograph]
        sigma[:, 1:] = fits.sigma[micrograph]
    form, shift = base + sums.change, particles.shift.double()
    optics = particles.optics
    for g, found in enumerate(groups):
        optics = changed(optics, g, found)
        mine = particles.optics_group == g
        if "shift" in found.values:  # phase 2 pi k.s
            shift[mine] += found.values["shift"] / (2 * torch.pi)
        if "magnification" in found.values:
            # aberrations are functions of M k: what defocus there is stays where it was in the image
            stretch = _stretch(found)
            base[mine], form[mine] = stretched(base[mine], stretch), stretched(form[mine], stretch)
    result = particles.replace(defocus=from_form(form).float(), shift=shift.float(), optics=optics)
    start = result.replace(defocus=from_form(base).float())
    return Refined(result, start, sigma, sums.at_end > 0, groups, prior)


def changed(optics: Optics, g: int, found: GroupFit) -> Optics:
    """The optics with what was found about group ``g`` added."""
    values = dict(found.values)
    voltage, cs = float(optics.voltage_kv[g]), float(optics.spherical_aberration[g])
    if "spherical" in values:
        mm = optics.spherical_aberration.clone()
        mm[g] += float(values["spherical"]) / spherical_factor(voltage)
        optics = optics.replace(spherical_aberration=mm)
    if "tilt" in values and abs(cs) >= MIN_CS:
        # of the new Cs, so that the phase is that which was found
        new = tilt_factor(voltage, float(optics.spherical_aberration[g]))
        before = torch.zeros(2) if optics.beam_tilt is None else optics.beam_tilt[g]
        tilt = (before * tilt_factor(voltage, cs) + values.pop("tilt")) / new
        optics = optics.replace(beam_tilt=_with(optics, optics.beam_tilt, 2, g, tilt))
    # shifts go to the particles
    odd = odd_zernike({n: v for n, v in values.items() if n in ("tilt", "trefoil")})
    even = even_zernike(values)
    if odd.any():
        before = _padded(optics.odd_zernike, 6)
        odd = (
            odd
            if before is None
            else before[g].double() + torch.nn.functional.pad(odd, (0, before.shape[1] - 6))
        )
        optics = optics.replace(odd_zernike=_with(optics, before, 6, g, odd))
    if even.any():
        before = _padded(optics.even_zernike, 9)
        even = (
            even
            if before is None
            else before[g].double() + torch.nn.functional.pad(even, (0, before.shape[1] - 9))
        )
        optics = optics.replace(even_zernike=_with(optics, before, 9, g, even))
    if "magnification" in values:
        none = torch.eye(2).repeat(len(optics), 1, 1)
        before = none if optics.magnification is None else optics.magnification
        matrix = before.clone()
        matrix[g] = (_stretch(found) @ before[g].double()).to(matrix)
        optics = optics.replace(magnification=matrix)
    return optics


def _stretch(found: GroupFit) -> Tensor:
    """1 + E (2, 2)."""
    e, c, s = found.values["magnification"].tolist()
    return torch.tensor([[1 + e + c, s], [s, 1 + e - c]], dtype=torch.float64)


def _with(optics: Optics, column: Tensor | None, size: int, g: int, values: Tensor) -> Tensor:
    """A column (g, size) of the optics with other values in one row."""
    column = torch.zeros(len(optics), size) if column is None else column.clone()
    column[g] = values.to(column)
    return column


def _padded(column: Tensor | None, size: int) -> Tensor | None:
    """At least so many coefficients."""
    if column is None or column.shape[1] >= size:
        return column
    return torch.nn.functional.pad(column, (0, size - column.shape[1]))
