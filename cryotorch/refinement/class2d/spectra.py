"""The images of a classification as truncated spectra: each is read once, and then stays in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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

    def of(self, rows: Tensor, limit: float) -> Observation:
        """Images of ``rows`` (b,) up to a limit, Fourier pixels."""
        self._read(rows[~self.known[rows]])
        box, device = self.grid.box, self.device
        count = min(half_plane(box).count(limit), self.count)
        shell = half_plane(box, device).shell[:count]
        group = self.particles.optics_group[rows].to(device)
        precision = (1 / self.noise)[group][:, shell]
        factor = factors(self.watch.ratio[rows], self.watch.max_ratio, self.watch.blank[rows])
        precision = precision * of_coefficients(factor.to(device), box, count)
        spectrum, gain = (v[rows, :count].to(device) for v in (self.spectrum, self.gain))
        return Observation(spectrum, gain, precision, box)

    def _read(self, rows: Tensor) -> None:
        for some in rows.split(READ_AT_ONCE):
            if not len(some):
                continue
            images = self.images[some.tolist()].to(self.device)
            seen = observe(self.particles, some, images, self.noise, self.grid)
            self.watch.weigh(seen, some)
            self.spectrum[some] = seen.spectrum[:, : self.count].cpu()
            self.gain[some] = seen.gain[:, : self.count].cpu()
            self.known[some] = True
