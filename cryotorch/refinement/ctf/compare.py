"""Images beside the slices of half maps, on one grey scale and without what an image finds of itself in its own.

A half map is made of the very images it is compared with: each finds itself in it, noise included, multiplied by the CTF that it
was inserted with, and likes that CTF best. How much of it is there follows, per shell, from what the images' correlation with their
own half map has in excess of that with the other one; it is taken off. The slope of the latter correlation makes grey scale and
weighting of the reference right: where half maps are noisy it is their Wiener filter. Of what belongs to single images nothing
but these two curves crosses between the half sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from cryotorch.ops.ctf.defocus_fit import (
    CtfTerms,
    defocus_basis,
    defocus_grid,
    defocus_profile,
    fit_defocus,
    prior_evidence,
    prior_widths,
)
from cryotorch.ops.fourier.slices import Projector, extract_slices, of_each, projector
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.pose.scores import Observation
from cryotorch.particles import Batch, Particles
from cryotorch.refinement.image_terms import observe, transfer
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.settings import CtfTargets, ImageGrid

SMOOTHED_SHELLS = 5  # shells that the share of an image's own noise is averaged over
MIN_SPREAD = 5.0  # Å: errors of the astigmatism are not taken to be smaller
Sample = Callable[[], Iterable[Batch]]


@dataclass(frozen=True)
class Calibration:
    """How images relate to the references.

    Attributes:
        amplitude: (s,) factor on the slices; own: (s,) f of what a slice holds of its own image, f w g y with the gain g at
            insertion; noise: (s,) factor on sigma2; match: standard errors by which the images correlate with the map of the
            other half set.
        prior: Å, standard deviations of the errors of the defocus: of the mean, and with astigmatism of each particle of all
            three numbers of ``defocus_fit.to_form``.
    """

    amplitude: Tensor
    own: Tensor
    noise: Tensor
    match: float
    prior: tuple[float, ...]


@dataclass(frozen=True)
class Scored:
    """Some images of one optics group: their terms, and the complex product (b, m) whose real part is their cross term.

    gain: (b, m) what sin(chi) is multiplied by to predict from a slice; rows: which particles.
    """

    terms: CtfTerms
    product: Tensor
    gain: Tensor
    rows: Tensor


def pick_sample(batches: Batches, per_half: int = 1000, size: int = 64) -> Sample:
    """Up to ``per_half`` images of each half set, evenly spread over the file; each call reads them anew."""

    def read() -> Iterable[Batch]:
        for half in (0, 1):
            rows = torch.nonzero(batches.half == half)[:, 0]
            rows = rows[torch.linspace(0, len(rows) - 1, min(per_half, len(rows))).long()]
            for part in rows.split(size):
                yield Batch(part, batches.images[part.tolist()], half)

    return read


def gathered(reference: Tensor) -> float:
    """How much more of an image's signal than of its noise a mask keeps of what was inserted at one orientation.

    The mask is where the reference (d, d, d) is not 0.

    An image is inserted as a plane of the transform, spread evenly along the beam, and noise evenly over the image as well. With
    the mask's thickness t(x, y), the box holds sum t / d^3 of the noise, and sum t^2 / (d sum t) of a signal that is spread like t.
    """
    inside = (reference.abs() > 1e-6 * reference.abs().max()).float()
    thickness = torch.stack([inside.sum(axis) for axis in range(3)]).double().flatten(1)
    ratio = thickness.square().mean(1) / thickness.mean(1).square()
    return float(ratio.mean())


class Comparison:
    """Images of some particles against a map for each half set.

    Args:
        particles: whose poses, CTF and aberrations the images are observed with.
        references: (2, d, d, d) half maps inside their mask, on any grey scale.
        made_with: the same particles as the references were made of; None = as they are.
        start: the same particles with the defocus that changes are counted from; None = as they are.
    """

    def __init__(
        self,
        particles: Particles,
        references: Tensor,
        what: CtfTargets,
        grid: ImageGrid,
        made_with: Particles | None = None,
        start: Particles | None = None,
    ) -> None:
        self.particles, self.references = particles, references
        self.made_with, self.start = made_with or particles, start or particles
        # CTFs spread fine detail over the box, and neighbouring coefficients of a windowed image share their noise
        whole = (float(grid.box), float(grid.box + 1))
        self.what, self.grid = what, replace(grid, window=whole)
        self.device = references.device
        self.plane = half_plane(grid.box, self.device)
        self.edge = grid.box * grid.pixel_size  # Å
        self.count = self.plane.count(what.limit)
        self.defocus_from = self.plane.count(self.edge / what.defocus_from)
        self.optics_from = self.plane.count(self.edge / what.optics_from)
        self.calibration: Calibration | None = None
        self._gathered = gathered(references[0])
        self._slices: dict[int, Projector] = {}

    def slices(self, half: int) -> Projector:
        """The map of a half set, ready for slicing; both are kept only where the optics need them."""
        if half not in self._slices:
            if not self.what.optics:
                self._slices.clear()  # batches come half by half
            self._slices[half] = projector(self.references[half], self.what.limit + 1)
        return self._slices[half]

    def observe(self, batch: Batch, noise: Tensor) -> Observation:
        """Images as ``scored`` takes them; noise: sigma2 (2, g, s)."""
        rows, images = batch.index.cpu(), batch.images.to(self.device)
        return observe(self.particles, rows, images, noise[batch.half], self.grid)

    def poses(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (b, 3, 3) and shifts (b, 2) in pixels that the particles of some rows (b,) have."""
        shift_px = self.particles.shift[rows] / self.grid.pixel_size
        return self.particles.rotation[rows].to(self.device), shift_px.to(self.device)

    def groups(self, rows: Tensor) -> Iterable[tuple[int, Tensor]]:
        """The optics groups of some particles, each with the places (k,) of its own among the rows (b,)."""
        groups = self.particles.optics_group[rows]
        for g in groups.unique().tolist():
            yield g, torch.nonzero(groups == g)[:, 0]

    def frequency(self, group: int) -> Tensor:
        """The frequencies of an optics group in the specimen, M k (m, 2) in 1/Å."""
        magnification = self.particles.optics.magnification
        m = None if magnification is None else magnification[group].to(self.device)
        return of_each(self.plane.frequency[: self.count] / self.edge, m)

    def defocus_basis(self, group: int) -> Tensor:
        """See ``defocus_fit.defocus_basis``."""
        return defocus_basis(self.frequency(group), self.particles.optics.voltage_kv[group])

    def calibrate(self, sample: Sample, noise: Tensor) -> Calibration:
        """Estimate ``calibration`` from a sample of both half sets; noise: sigma2 (2, g, s) as it is known so far."""
        shell, shells = self.plane.shell[: self.count], self.plane.n_shells
        own, other, power, image, noisy, matched_again, stood_for, each = torch.zeros(
            8, shells, dtype=torch.float64, device=self.device
        )
        for half in (0, 1):
            for batch in sample():
                rows = batch.index.cpu()
                images = self.observe(batch, noise)
                gain, w = images.gain[:, : self.count], images.precision[:, : self.count]
                product, square = self._products(images, *self.poses(rows), half)
                inserted = w * self._inserted_with(rows, images, self.poses(rows)[1])

                def add(total: Tensor, value: Tensor) -> None:
                    total.index_add_(0, shell, value.sum(0, dtype=torch.float64))

                if batch.half == half:
                    known = gain != 0  # an optics group of coarser pixels ends before the others
                    weighted = self._weighted_power(images) * known
                    add(own, gain * product.real)
                    add(each, known)
                    add(image, weighted)
                    add(noisy, gain * inserted.real)
                    add(matched_again, gain * inserted.real * weighted)
                else:
                    add(other, gain * product.real)
                    add(power, gain**2 * square)
                    add(stood_for, gain * product.real * inserted.abs() ** 2 / w)
        amplitude = (other / power.clamp_min(1e-30)).clamp_min(0)
        ratio = torch.where(each > 0, (image - amplitude * other) / each.clamp_min(1), 1.0)
        # what an image adds to its map: noise, and more of its signal, which without it others would stand for
        noisy = noisy * ratio
        share = noisy + self._gathered * (matched_again - noisy - stood_for)
        excess, share = (
            avg_pool1d(v[None], SMOOTHED_SHELLS, 1, SMOOTHED_SHELLS // 2)[0]
            for v in (own - other, share)
        )
        excess = torch.where(share > 0, excess / share.clamp_min(1e-30), 0.0).clamp_min(0)
        # a sum of products has half the sum of powers as its variance
        match = float(other.sum() / (0.5 * power.sum()).clamp_min(1e-30).sqrt())
        curves = (amplitude.float(), excess.float(), ratio.float())
        self.calibration = Calibration(
            *curves, match, (self.what.prior or self.what.defocus_range,)
        )
        if self.what.defocus and self.what.prior is None:
            self.calibration = replace(self.calibration, prior=(self._prior(sample, noise),))
        if self.what.astigmatism == "particle":
            prior = self.calibration.prior + (self._astigmatism_prior(sample, noise),) * 2
            self.calibration = replace(self.calibration, prior=prior)
        return self.calibration

    def _prior(self, sample: Sample, noise: Tensor) -> float:
        """The most probable standard deviation of the defocus errors, Å."""
        widths = prior_widths(self.what.defocus_range).to(self.device)
        evidence = torch.zeros(len(widths), dtype=torch.float64, device=self.device)
        for terms, basis in self._defocus_terms(sample, noise):
            grid = defocus_grid(basis, self.what.defocus_range)
            evidence += prior_evidence(defocus_profile(terms, basis, grid), grid, widths)
        return float(widths[evidence.argmax()])

    def _astigmatism_prior(self, sample: Sample, noise: Tensor) -> float:
        """The standard deviation of the astigmatism's errors, Å: what free fits scatter beyond their errors."""
        excess = weight = 0.0
        prior = (self.calibration.prior[0], self.what.defocus_range, self.what.defocus_range)
        for terms, basis in self._defocus_terms(sample, noise):
            fit = fit_defocus(terms, basis, self.what.defocus_range, prior)
            change, sigma = fit.change[:, 1:].double(), fit.sigma[:, 1:].double()
            excess += float(((change**2 - sigma**2) / sigma**4).sum())
            weight += float((1 / sigma**4).sum())
        return max(excess / weight, MIN_SPREAD**2) ** 0.5

    def _defocus_terms(self, sample: Sample, noise: Tensor) -> Iterable[tuple[CtfTerms, Tensor]]:
        """The terms of a sample, group by group, where the defocus is fitted, with their basis."""
        first = self.defocus_from
        for batch in sample():
            rows = batch.index.cpu()
            images, poses = self.observe(batch, noise), self.poses(rows)
            for group, scored in self.scored(rows, images, *poses, batch.half, own=True):
                yield scored.terms.from_coefficient(first), self.defocus_basis(group)[first:]

    def scored(
        self,
        rows: Tensor,
        images: Observation,
        rotation: Tensor,
        shift_px: Tensor,
        half: int,
        own: bool,
    ) -> Iterable[tuple[int, Scored]]:
        """What images of a half set say about their CTF at some poses, by optics group, calibrated.

        rows (b,); poses (b, 3, 3) and (b, 2) pixels. ``own``: against the map of their half set, else of the other one.
        """
        c = self.calibration
        assert c is not None, "calibrate comes first"
        curves = c.amplitude, c.own, c.noise
        product, power = self._products(images, rotation, shift_px, half if own else 1 - half)
        amplitude, share, noise = (v[self.plane.shell[: self.count]] for v in curves)
        gain, chi = self._envelope(rows)
        if own:
            inserted = self._inserted_with(rows, images, shift_px)
            weighted = images.precision[:, : self.count] * inserted
            taken = self._gathered * share * (weighted * inserted.conj()).real
            image = self._weighted_power(images)
        for group, part in self.groups(rows):
            at = part.to(self.device)
            its = product[at]
            if own:
                # the mask keeps more of the image's signal than of its noise
                signal = amplitude * power[at] * gain[at] ** 2 * self._mean_square(group, chi[at])
                mine = share * weighted[at] * (image[at] + (self._gathered - 1) * signal)
                its = (its - mine) / (1 - taken[at]).clamp_min(0.5)
            g = gain[at] * amplitude
            its = g / noise * its
            terms = CtfTerms(its.real, g**2 / noise * power[at], chi[at])
            yield group, Scored(terms, its, g, part)

    def _mean_square(self, group: int, chi: Tensor) -> Tensor:
        """The mean of sin(chi)^2 over what the defocus may be."""
        if not self.what.defocus:
            return torch.sin(chi) ** 2
        spread = self.defocus_basis(group)[:, 0] * self.calibration.prior[0]
        return 0.5 - 0.5 * torch.cos(2 * chi) * torch.exp(-2 * spread**2)

    def _products(
        self, images: Observation, rotation: Tensor, shift_px: Tensor, half: int
    ) -> tuple[Tensor, Tensor]:
        """w conj(y) p and w |p|^2 (b, m) with the slices p of a half map at some poses."""
        count = self.count
        frequency = of_each(self.plane.frequency[:count], images.magnification)
        p = extract_slices(self.slices(half), rotation, frequency)
        w, y = images.precision[:, :count], images.spectrum[:, :count]
        y = y * shift_phase(-shift_px, self.grid.box, count)
        return w * y.conj() * p, w * (p.real**2 + p.imag**2)

    def _weighted_power(self, images: Observation) -> Tensor:
        """w |y|^2 (b, m)."""
        y = images.spectrum[:, : self.count]
        return images.precision[:, : self.count] * (y.real**2 + y.imag**2)

    def _inserted_with(self, rows: Tensor, images: Observation, shift_px: Tensor) -> Tensor:
        """The gain (b, m) that the images were inserted with, turned by how else they are moved and corrected now."""
        grid, count, then = self.grid, self.count, self.made_with
        before = then.shift[rows].to(self.device) / grid.pixel_size
        turn = shift_phase(shift_px - before, grid.box, count)
        if then is self.particles:
            return images.gain[:, :count] * turn
        old, new = (
            transfer(each, rows, grid.box, grid.pixel_size, self.device)
            for each in (then, self.particles)
        )
        if new.phase is not None:
            turn = turn * new.phase[:, :count]
        if old.phase is not None:
            turn = turn * old.phase[:, :count].conj()
        return turn * old.gain[:, :count] * then.scale[rows].to(self.device)[:, None]

    def _envelope(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and envelope g, and chi, such that g sin(chi) is the gain at the start: from that and the same a quarter turn ahead."""
        grid, p = self.grid, self.start
        ahead = p.replace(phase_shift=p.phase_shift + torch.pi / 2)
        sine, cosine = (
            transfer(each, rows, grid.box, grid.pixel_size, self.device).gain[:, : self.count]
            for each in (p, ahead)
        )
        scale = p.scale[rows].to(self.device)[:, None]
        return scale * torch.hypot(sine, cosine), torch.atan2(sine, cosine)
