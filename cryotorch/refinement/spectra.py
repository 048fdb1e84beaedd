"""The images of a beginning, of class averages or first maps, as truncated spectra; those that are loud count for less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cryotorch.ops.fourier.resample import stretched
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.scores import Observation
from cryotorch.particles import Particles
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.image_weight import Watch, factors, of_coefficients
from cryotorch.refinement.settings import ImageGrid

READ_AT_ONCE = 256  # images


class Spectra:
    """Observations of any rows of a set of particles.

    Args:
        images: ``images[rows]`` is a tensor (b, d, d).
        particles: their n rows.
        noise: (g, s) sigma2 of the groups; max_ratio: how loud an image may be, see ``image_weight``.
        limit: Fourier pixels.
    """

    def __init__(
        self,
        images: Any,
        particles: Particles,
        grid: ImageGrid,
        noise: Tensor,
        max_ratio: Tensor,
        limit: float,
    ) -> None:
        self.images, self.particles, self.grid, self.noise = images, particles, grid, noise
        self.count = half_plane(grid.box).count(limit)
        n = len(particles)
        # pages of memory are taken when they are written to
        self.spectrum = torch.empty(n, self.count, dtype=torch.complex64)
        self.gain = torch.empty(n, self.count)
        self.known = torch.zeros(n, dtype=torch.bool)
        self.watch = Watch(max_ratio, n)

    def __len__(self) -> int:
        return len(self.known)

    @property
    def device(self) -> torch.device:
        """Where observations lie."""
        return self.noise.device

    def read(self, rows: Tensor) -> Observation:
        """Images of ``rows`` (b,), read anew, up to the last limit; their magnification is told."""
        images = self.images[rows.tolist()].to(self.device)
        seen = observe(self.particles, rows, images, self.noise, self.grid)
        return self.watch.weigh(seen, rows).limited(self.count)

    def together(self, rows: Tensor, tell: Callable[[int], object]) -> Observation:
        """The same of many ``rows`` (n,); ``tell`` hears how many images were read."""
        parts = []
        for some in rows.split(READ_AT_ONCE):
            parts.append(self.read(some))
            tell(len(some))
        stretch = [part.magnification for part in parts if part.magnification is not None]
        return Observation(
            torch.cat([part.spectrum for part in parts]),
            torch.cat([part.gain for part in parts]),
            torch.cat([part.precision for part in parts]),
            self.grid.box,
            torch.cat(stretch) if stretch else None,
        )

    def of(self, rows: Tensor, limit: float) -> Observation:
        """Images of ``rows`` (b,) up to a limit, Fourier pixels, to be compared with the same slices: the magnification is undone.

        Each is read once, and then stays in memory.
        """
        self._keep(rows[~self.known[rows]])
        box, device = self.grid.box, self.device
        count = min(half_plane(box).count(limit), self.count)
        shell = half_plane(box, device).shell[:count]
        group = self.particles.optics_group[rows].to(device)
        precision = (1 / self.noise)[group][:, shell]
        factor = factors(self.watch.ratio[rows], self.watch.max_ratio, self.watch.blank[rows])
        precision = precision * of_coefficients(factor.to(device), box, count)
        spectrum, gain = (v[rows, :count].to(device) for v in (self.spectrum, self.gain))
        return Observation(spectrum, gain, precision, box)

    def once(self, rows: Tensor) -> Observation:
        """The same of ``rows`` (b,) up to the last limit, read anew and not kept."""
        seen = self._in_the_specimen(rows)
        return self.watch.weigh(seen, rows).limited(self.count)

    def in_images(self, shift_px: Tensor) -> Tensor:
        """Shifts (n, 2) of all images as ``of`` has them, in the pixels of the images themselves."""
        stretch = self.particles.optics.magnification
        if stretch is None:
            return shift_px
        of_each = stretch[self.particles.optics_group].to(shift_px)
        return (of_each.mT @ shift_px[:, :, None])[:, :, 0]

    def in_specimen(self, shift_px: Tensor) -> Tensor:
        """The inverse of ``in_images``: shifts (n, 2) of all images, in their own pixels, as ``of`` has them."""
        stretch = self.particles.optics.magnification
        if stretch is None:
            return shift_px
        of_each = torch.linalg.inv(stretch)[self.particles.optics_group].to(shift_px)
        return (of_each.mT @ shift_px[:, :, None])[:, :, 0]

    def _keep(self, rows: Tensor) -> None:
        for some in rows.split(READ_AT_ONCE):
            if not len(some):
                continue
            seen = self._in_the_specimen(some)
            self.watch.weigh(seen, some)
            self.spectrum[some] = seen.spectrum[:, : self.count].cpu()
            self.gain[some] = seen.gain[:, : self.count].cpu()
            self.known[some] = True

    def _in_the_specimen(self, rows: Tensor) -> Observation:
        """Images with the magnification undone: y'(M k) = y(k). All aberrations are those at M k, see ``image_terms.transfer``."""
        images, particles = self.images[rows.tolist()].to(self.device), self.particles
        stretch = particles.optics.magnification
        if stretch is not None:
            group = particles.optics_group[rows]
            for one in group.unique().tolist():
                mine = (group == one).to(images.device)
                images[mine] = stretched(images[mine], torch.linalg.inv(stretch[one]))
            particles = particles.replace(optics=particles.optics.replace(magnification=None))
        return observe(particles, rows, images, self.noise, self.grid)
