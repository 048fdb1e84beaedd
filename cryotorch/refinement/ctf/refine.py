"""CTF refinement at known poses: defocus of every particle, aberrations of every optics group, from one pass over the images.

``CtfPass.calibrate`` on a sample, ``add`` for every batch, ``solve``. Everything is found relative to what the images come with.

What belongs to a single particle is found by the map of its own half set alone. The numbers of an optics group are shared by both half
sets, so that it makes no difference to their independence which map the particles are compared with: it is that of the other
half set, in which an image does not find itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.ops.ctf.aberration_fit import EVEN, monomials
from cryotorch.ops.ctf.defocus_fit import CtfTerms, fit_defocus
from cryotorch.ops.fourier.slices import extract_slices, of_each
from cryotorch.ops.fourier.transforms import shift_phase
from cryotorch.ops.pose.scores import Observation
from cryotorch.particles import Batch, Particles
from cryotorch.refinement.ctf.apply import Refined, apply
from cryotorch.refinement.ctf.compare import Calibration, Comparison, Sample, Scored
from cryotorch.refinement.ctf.sums import (
    CLEAR_ERRORS,
    clear_only,
    empty_sums,
    even_names,
    odd_names,
    once_per_image,
    solve_groups,
)
from cryotorch.refinement.image_weight import Watch
from cryotorch.refinement.settings import CtfTargets, ImageGrid

REFIT_PRIOR_ERRORS = 3.0  # standard errors of a defocus that was fitted before, as the width of the prior when it is fitted again
SLOPE_STEP = 0.5  # Fourier pixels of the differences across a slice: one sample of the padded grid


class CtfPass:
    """One pass over all particles.

    Args:
        particles, references, made_with, start: see ``Comparison``.
        micrograph: (n,) int64 number of each particle's micrograph where its particles share their astigmatism, else None.
        watch: weighs images that are too loud; None = all count alike.
    """

    def __init__(
        self,
        particles: Particles,
        references: Tensor,
        what: CtfTargets,
        grid: ImageGrid,
        made_with: Particles | None = None,
        start: Particles | None = None,
        micrograph: Tensor | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.comparison = Comparison(particles, references, what, grid, made_with, start)
        self.what, self.micrograph, self.watch = what, micrograph, watch
        points = max(self.comparison.count - self.comparison.optics_from, 0)
        self.sums = empty_sums(particles, what, points, micrograph)

    def calibrate(self, sample: Sample, noise: Tensor) -> Calibration:
        """See ``Comparison.calibrate``; noise: sigma2 (2, g, s)."""
        return self.comparison.calibrate(sample, noise)

    def add(
        self,
        batch: Batch,
        noise: Tensor,
        rotation: Tensor | None = None,
        shift_px: Tensor | None = None,
    ) -> None:
        """Fit the defocus of the particles of a batch, and add them to the sums of their groups.

        noise: sigma2 (2, g, s) as for ``calibrate``; poses (b, 3, 3) and (b, 2) pixels, None = those of the particles.
        """
        rows, half = batch.index.cpu(), batch.half
        if len(rows) == 0:
            return
        groups = self.comparison.particles.optics_group[rows]
        self.sums.count.add_(torch.bincount(groups, minlength=len(self.sums.count)))
        images = self.comparison.observe(batch, noise)
        if self.watch is not None:
            images = self.watch.weigh(images, rows)
        if rotation is None or shift_px is None:
            rotation, shift_px = self.comparison.poses(rows)
        c, what = self.comparison, self.what
        posed = rows, images, rotation, shift_px, half
        turned: dict[int, tuple[Tensor, Tensor]] = {}
        if what.defocus:
            for group, own in c.scored(*posed, own=True):
                turned[group] = self._fit(rows[own.rows], own.terms, c.defocus_basis(group))
        if not what.optics:
            return
        for group, scored in c.scored(*posed, own=False):
            terms = scored.terms.turned(turned[group][0]) if what.defocus else scored.terms
            if odd_names(what):
                self._add_odd(group, terms, scored.product)
            if even_names(what):
                change = turned[group][1] if what.defocus else None
                self._add_even(group, terms, change)
            if what.anisomag:
                at = scored.rows.to(rotation.device)
                some, poses = images.of(at), (rotation[at], shift_px[at])
                self._add_magnification(group, scored, terms.chi, some, *poses, 1 - half)

    def solve(self, errors: float = CLEAR_ERRORS) -> Refined:
        """What follows from ``sums``, which are reduced over ranks before; ``errors``: see ``clear_only``."""
        c = self.comparison
        frequency = [c.frequency(g)[c.optics_from :].cpu() for g in range(len(c.particles.optics))]
        sums = once_per_image(self.sums, c.particles, self.micrograph)
        groups = solve_groups(sums, self.what, frequency)
        groups = [clear_only(found, errors) for found in groups]
        prior = c.calibration.prior[0]
        return apply(c.particles, c.start, sums, groups, self.micrograph, prior)

    def _fit(self, rows: Tensor, terms: CtfTerms, basis: Tensor) -> tuple[Tensor, Tensor]:
        """Find the defocus of some particles, and note it; by how much chi changes (b, m), and the change (b, p) in Å."""
        what, sums, start = self.what, self.sums, self.comparison.defocus_from
        used = terms.from_coefficient(start)
        fit = fit_defocus(
            used, basis[start:], what.defocus_range, self.comparison.calibration.prior
        )
        size = fit.change.shape[1]
        sums.change[rows, :size] = fit.change.double().cpu()
        sums.sigma[rows, :size] = fit.sigma.double().cpu()
        sums.at_end[rows] = fit.at_end.double().cpu()
        if self.micrograph is not None:
            self._add_astigmatism(
                rows, used.turned(fit.change @ basis[start:, :1].T), basis[start:]
            )
        return fit.change @ basis[:, :size].T, fit.change

    def _add_astigmatism(self, rows: Tensor, terms: CtfTerms, basis: Tensor) -> None:
        """Normal equations of the astigmatism of micrographs, less what the freedom of the mean takes of the information."""
        slope, expected, _ = terms.slope()
        normal = (expected @ _squares(basis)).unflatten(1, (3, 3)).double()
        mixed = normal[:, 1:, :1]
        mean = normal[:, :1, :1] + 0.5 / self.comparison.calibration.prior[0] ** 2
        numbers, sums = self.micrograph[rows], self.sums
        gradient = (slope @ basis[:, 1:]).double()
        sums.astigmatism_gradient.index_add_(0, numbers, gradient.cpu())
        rest = normal[:, 1:, 1:] - mixed @ mixed.mT / mean
        sums.astigmatism_normal.index_add_(0, numbers, rest.cpu())

    def _add_odd(self, group: int, terms: CtfTerms, product: Tensor) -> None:
        start, sums = self.comparison.optics_from, self.sums
        sine = torch.sin(terms.chi[:, start:])
        cross = (product[:, start:] * sine).sum(0, dtype=torch.complex128)
        sums.odd_cross[group] += torch.view_as_real(cross).cpu()
        power = (terms.power[:, start:] * sine**2).sum(0, dtype=torch.float64)
        sums.odd_power[group] += power.cpu()

    def _add_even(self, group: int, terms: CtfTerms, change: Tensor | None) -> None:
        """Sums over the images; with a defocus of their own, that was changed by (b, p) Å, what its freedom takes.

        Eliminated from the normal equations, it takes C D^-1 C^T from the matrix and C D^-1 g from the slope, D and g those of
        the defocus, C what it shares with the aberrations.
        """
        sums, what, c = self.sums, self.what, self.comparison
        start, first = c.optics_from, c.defocus_from
        slope, expected, _ = terms.slope()
        sums.even_slope[group] -= slope[:, start:].sum(0, dtype=torch.float64).cpu()
        sums.even_power[group] += expected[:, start:].sum(0, dtype=torch.float64).cpu()
        if change is None:
            return
        # the astigmatism of micrographs is as free as that of particles, if not quite
        size = 1 if what.astigmatism == "none" else 3
        basis = c.defocus_basis(group)[:, :size].double()
        slope, expected = slope.double(), expected.double()
        functions = monomials(c.frequency(group)[start:], [EVEN[n] for n in even_names(what)])
        shared = (functions[:, :, None] * basis[start:, None]).flatten(1)
        shared = -(expected[:, start:] @ shared).unflatten(1, (-1, size))
        weight = (
            0.5 / torch.tensor((c.calibration.prior + (what.defocus_range,) * 2)[:size]) ** 2
        ).to(basis)
        own = (expected[:, first:] @ _squares(basis[first:])).unflatten(1, (size, size))
        own = own + torch.diag(weight)
        pull = slope[:, first:] @ basis[first:]
        pull[:, : change.shape[1]] -= weight[: change.shape[1]] * change
        sums.even_coupled[group] += (shared @ torch.linalg.solve(own, shared.mT)).sum(0).cpu()
        taken = shared @ torch.linalg.solve(own, pull[:, :, None])
        sums.even_pull[group] += taken[:, :, 0].sum(0).cpu()

    def _add_magnification(
        self,
        group: int,
        scored: Scored,
        chi: Tensor,
        images: Observation,
        rotation: Tensor,
        shift_px: Tensor,
        half: int,
    ) -> None:
        """Normal equations of M -> (1 + E) M, E = [[e + c, s], [s, e - c]], from the slices' slope across their plane."""
        c = self.comparison
        start, count = c.optics_from, c.count
        reference = c.slices(half)
        at = of_each(c.plane.frequency[start:count], images.magnification)

        def slices_at(x: float, y: float) -> Tensor:
            return extract_slices(reference, rotation, at + torch.tensor([x, y]).to(at))

        gx = (slices_at(SLOPE_STEP, 0) - slices_at(-SLOPE_STEP, 0)) / (2 * SLOPE_STEP)
        gy = (slices_at(0, SLOPE_STEP) - slices_at(0, -SLOPE_STEP)) / (2 * SLOPE_STEP)
        qx, qy = at.unbind(-1)
        gain = scored.gain[:, start:] * torch.sin(chi[:, start:])
        y = images.spectrum[:, start:count] * shift_phase(-shift_px, images.box, count)[:, start:]
        noise = c.calibration.noise[c.plane.shell[start:count]]
        root = (images.precision[:, start:count] / noise).sqrt()
        rest = y - gain * slices_at(0, 0)
        slopes = [gain * s for s in (gx * qx + gy * qy, gx * qx - gy * qy, gx * qy + gy * qx)]
        rows = torch.stack([torch.view_as_real(root * v) for v in (rest, *slopes)]).flatten(2)
        gram = (rows.transpose(0, 1) @ rows.permute(1, 2, 0)).sum(0, dtype=torch.float64).cpu()
        self.sums.magnification_gradient[group] += gram[0, 1:]
        self.sums.magnification_normal[group] += gram[1:, 1:]


def _squares(basis: Tensor) -> Tensor:
    """All products of two columns (m, p) -> (m, p^2)."""
    return (basis[:, :, None] * basis[:, None]).flatten(1)
