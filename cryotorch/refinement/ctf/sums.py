"""The sums of a CTF refinement, and the aberrations that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.ctf.aberration_fit import EVEN, ODD, Fit, fit_linear, fit_odd, monomials
from cryotorch.particles import Particles
from cryotorch.refinement.half_sets import image_numbers
from cryotorch.refinement.settings import CtfTargets

# rad: standard error of the phase at the limit beyond which an aberration is not believed.
MAX_PHASE_ERROR = 1.0
CLEAR_ERRORS = 3.0  # standard errors from which on what is found about the optics is taken over


@dataclass(frozen=True)
class CtfSums:
    """Everything that batches add to; float64, on the CPU, all-reduced over ranks as they are.

    Attributes:
        change: (n, 3) Å, defocus of each particle as ``defocus_fit.to_form`` has it; sigma: (n, 3); at_end: (n,) 1 where the
            search ended at its border.
        count: (g,) particles; odd_cross: (g, m, 2) sum w conj(y) f; odd_power: (g, m) sum w |f|^2;
        even_slope, even_power: (g, m) derivative of the score by a phase subtracted from chi, and the expected curvature;
        even_coupled: (g, e, e), even_pull: (g, e) what the particles' own defocus takes from the normal equations.
        astigmatism_gradient: (r, 2), astigmatism_normal: (r, 2, 2) of micrographs.
        magnification_gradient: (g, 3), magnification_normal: (g, 3, 3).
    """

    change: Tensor
    sigma: Tensor
    at_end: Tensor
    count: Tensor
    odd_cross: Tensor
    odd_power: Tensor
    even_slope: Tensor
    even_power: Tensor
    even_coupled: Tensor
    even_pull: Tensor
    astigmatism_gradient: Tensor
    astigmatism_normal: Tensor
    magnification_gradient: Tensor
    magnification_normal: Tensor

    def tensors(self) -> list[Tensor]:
        """For the reduction over ranks."""
        return [getattr(self, name) for name in self.__dataclass_fields__]


@dataclass(frozen=True)
class Phases:
    """Phases at each frequency (m, 2) in 1/Å: measured (m,) as complex numbers weight x e^{i phase}, and fitted (m,) rad."""

    frequency: Tensor
    measured: Tensor
    fitted: Tensor


@dataclass(frozen=True)
class GroupFit:
    """What was found about an optics group.

    Attributes:
        particles: how many it has.
        values: coefficients of the monomials by name, see ``ODD`` and ``EVEN``, in rad Å^n, and "magnification" (e, c, s).
        sigma: their standard errors.
        unknown: names of those that the data do not tell; their values are zero.
        odd, even: the phases behind them, None where they were not fitted.
    """

    particles: int
    values: dict[str, Tensor]
    sigma: dict[str, Tensor]
    unknown: list[str]
    odd: Phases | None = None
    even: Phases | None = None


# Terms of one angular order are told apart badly, those of different orders well: each set of these is taken or left as one.
SAME_ORDER = (
    ("tilt", "shift"),
    ("trefoil",),
    ("spherical",),
    ("tetrafoil",),
    ("secondary_astigmatism", "astigmatism"),
    ("magnification",),
)


def clear_only(found: GroupFit, errors: float = CLEAR_ERRORS) -> GroupFit:
    """Without the terms of an angular order where none is ``errors`` standard errors from zero: noise is no aberration.

    The shift goes with the tilt: alone it would undo one that was left out.
    """
    values = dict(found.values)
    for order in SAME_ORDER:
        terms = [name for name in order if name in values and name != "shift"]
        if not any((values[n].abs() >= errors * found.sigma[n]).any() for n in terms):
            values = {name: value for name, value in values.items() if name not in order}
    return replace(found, values=values)


def odd_names(what: CtfTargets) -> list[str]:
    """Names in ``ODD`` that are fitted."""
    wanted = {"shift": what.tilt, "tilt": what.tilt, "trefoil": what.trefoil}
    return [name for name in ODD if wanted[name]]


def even_names(what: CtfTargets) -> list[str]:
    """Names in ``EVEN`` that are fitted; astigmatism that is found particle by particle stands for that of the group."""
    wanted = dict.fromkeys(EVEN, what.tetra) | {"spherical": what.spherical}
    wanted["astigmatism"] = what.tetra and what.astigmatism == "none"
    return [name for name in EVEN if wanted[name]]


def empty_sums(
    particles: Particles, what: CtfTargets, points: int, micrograph: Tensor | None
) -> CtfSums:
    """Zeros; ``points``: coefficients that the optics are fitted to; ``micrograph`` (n,) int64 as for ``CtfPass``, or None."""
    n, g = len(particles), len(particles.optics)
    r = 0 if micrograph is None else int(micrograph.max()) + 1
    e = sum(2 if EVEN[name][1] else 1 for name in even_names(what))

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.float64)

    images = [(g, points, 2), (g, points), (g, points), (g, points), (g, e, e), (g, e)]
    shapes = [(n, 3), (n, 3), (n,), (g,), *images, (r, 2), (r, 2, 2), (g, 3), (g, 3, 3)]
    return CtfSums(*(zeros(*shape) for shape in shapes))


def solve_groups(sums: CtfSums, what: CtfTargets, frequency: list[Tensor]) -> list[GroupFit]:
    """The aberrations of every group; frequency: for each the (m, 2) in 1/Å that the sums are over."""
    scale = _mean_scale(sums) if what.anisomag else 0.0
    return [_solve_group(sums, g, what, k, scale) for g, k in enumerate(frequency)]


def _solve_group(
    sums: CtfSums, g: int, what: CtfTargets, frequency: Tensor, scale: float
) -> GroupFit:
    found = GroupFit(int(sums.count[g]), {}, {}, [])
    if not found.particles:
        return found
    odd = even = None
    if names := odd_names(what):
        orders = [ODD[name] for name in names]
        basis, radius = monomials(frequency, orders), frequency.double().norm(dim=1)
        cross = torch.view_as_complex(sums.odd_cross[g])
        fit = fit_odd(cross, sums.odd_power[g], basis, radius)
        fitted = _take(found, names, fit, basis, [["shift", "tilt"], ["trefoil"]])
        odd = Phases(frequency, cross.conj(), fitted)
    if names := even_names(what):
        basis = monomials(frequency, [EVEN[name] for name in names])
        normal = (basis.T * sums.even_power[g]) @ basis - sums.even_coupled[g]
        fit = fit_linear(basis.T @ sums.even_slope[g] - sums.even_pull[g], normal)
        fitted = _take(found, names, fit, basis, [["spherical"], list(EVEN)[1:]])
        even = Phases(frequency, torch.complex(sums.even_power[g], sums.even_slope[g]), fitted)
    if what.anisomag:
        fit = fit_linear(sums.magnification_gradient[g], sums.magnification_normal[g])
        found.values["magnification"] = fit.value - torch.tensor([scale, 0, 0]).to(fit.value)
        found.sigma["magnification"] = fit.sigma
    return replace(found, odd=odd, even=even)


def _take(
    found: GroupFit, names: list[str], fit: Fit, basis: Tensor, blocks: list[list[str]]
) -> Tensor:
    """Note values and errors by name; those of a block that leaves the phase open are zero. Returns the phases (m,)."""
    table = ODD | EVEN
    sizes = [2 if table[name][1] else 1 for name in names]
    places = dict(zip(names, torch.arange(sum(sizes)).split(sizes), strict=True))
    value = fit.value.clone()
    for block in blocks:
        at = [i for name in block if name in places for i in places[name].tolist()]
        if at and fit.phase_sigma(basis, at) > MAX_PHASE_ERROR:
            value[at] = 0
            found.unknown.extend(name for name in block if name in places)
    for name, at in places.items():
        found.values[name], found.sigma[name] = value[at], fit.sigma[at]
    return basis @ value


def _mean_scale(sums: CtfSums) -> float:
    """The change of scale that all groups share, which is that of the map and cannot be told from its own particles."""
    fits = fit_linear(sums.magnification_gradient, sums.magnification_normal)
    return float((fits.value[:, 0] * sums.count).sum() / sums.count.sum().clamp_min(1))


def once_per_image(sums: CtfSums, particles: Particles, micrograph: Tensor | None) -> CtfSums:
    """The sums of optics groups and micrographs divided by how often their images are counted, which standard errors follow from.

    Copies of an image, as symmetry expansion makes them, tell nothing that it did not tell before. ``micrograph`` (n,) as for ``CtfPass``.
    """
    image = image_numbers(particles)
    weight = 1 / torch.bincount(image)[image].double()
    if bool((weight == 1).all()):
        return sums

    def share(of: Tensor, size: int) -> Tensor:
        total = torch.zeros(size, dtype=torch.float64).index_add_(0, of, weight)
        return total / torch.bincount(of, minlength=size).clamp_min(1)

    shares = {"odd": share(particles.optics_group, len(particles.optics))}
    shares |= dict.fromkeys(("even", "magnification"), shares["odd"])
    if micrograph is not None:
        shares["astigmatism"] = share(micrograph, len(sums.astigmatism_normal))
    changed = {}
    for name in sums.__dataclass_fields__:
        values, by = getattr(sums, name), shares.get(name.partition("_")[0])
        if by is not None:
            changed[name] = values * by.view(-1, *[1] * (values.dim() - 1))
    return replace(sums, **changed)
