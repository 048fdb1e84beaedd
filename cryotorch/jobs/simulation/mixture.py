"""Particles of more than one species, and junk: which particle shows what, and what the others look like."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.jobs.simulation.particles import (
    Body,
    signal_power,
    signal_spectra,
    source_volume,
)
from cryotorch.jobs.simulation.settings import Simulate
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.particles import Particles
from cryotorch.refinement.image_terms import transfer

SPECIES = "cryotorchSpecies"
FIRST, SECOND, NOISE, BLOBS = 1, 2, 3, 4
# Blobs of an image: how many, their width and their standard deviation from the middle, as parts of the box edge.
BLOBS_EACH = 4
BLOB_WIDTH, BLOB_SPREAD = (0.03, 0.08), 0.12


@dataclass(frozen=True)
class Mixture:
    """What the particles show.

    Attributes:
        species: (n,) int64, one of ``FIRST``, ``SECOND``, ``NOISE``, ``BLOBS``.
        second: map and poses of the second species, or None.
        blobs: (n, c, 3) width and place (x, y) of the blobs of an image, in box edges.
        particles: with the CTF; box: pixels; signal: variance of a blob's image.
    """

    species: Tensor
    second: Body | None
    blobs: Tensor
    particles: Particles
    box: int
    signal: float

    def spectra(self, of_first: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """A function from rows to the packed spectra (b, m) of their noise-free images, given that of the first species."""
        second = self.second and projector(self.second.volume)

        def spectra(rows: Tensor) -> Tensor:
            made, kind = of_first(rows), self.species[rows]
            if self.second is not None and second is not None:
                other = signal_spectra(second, self.second.particles, rows)
                made = torch.where((kind == SECOND)[:, None], other, made)
            made[kind == NOISE] = 0
            mine = kind == BLOBS
            if mine.any():
                made[mine] = self._blobs(rows[mine])
            return made

        return spectra

    def _blobs(self, rows: Tensor) -> Tensor:
        box, pixel_size = self.box, float(self.particles.optics.pixel_size[0])
        frequency = half_plane(box).frequency
        width, place = self.blobs[rows].split([1, 2], 2)
        decay = torch.exp(-2 * (math.pi * width) ** 2 * frequency.square().sum(1))
        phase = torch.exp(-2j * math.pi * (place @ frequency.mT))
        through = transfer(self.particles, rows, box, pixel_size, frequency.device)
        made = (decay * phase).sum(1) * through.gain
        power = 2 * made.abs().square().sum(1, keepdim=True) / box**2
        return made * (self.signal / power.clamp_min(1e-30)).sqrt()


def draw_mixture(
    particles: Particles, settings: Simulate, generator: torch.Generator
) -> Mixture | None:
    """Which of the particles show what; None where all show the first species.

    Raises:
        InputError: the second species cannot be read, does not fit into the box, is blank or lacks the symmetry.
    """
    if settings.second_species is None and not settings.junk_share:
        return None
    n, second = len(particles), None
    junk = round(settings.junk_share * n)
    species = torch.full((n,), FIRST)
    species[: junk // 2] = NOISE
    species[junk // 2 : junk] = BLOBS
    signal = settings.snr or 1.0
    if settings.second_species is not None:
        species[junk : junk + round(settings.second_species_share * (n - junk))] = SECOND
        volume = source_volume(settings, "second_species", settings.phantom_seed + 1)
        body = Body(volume, particles)
        second = Body(volume * math.sqrt(signal / signal_power([body], settings)), particles)
    species = species[torch.randperm(n, generator=generator)]
    low, high = BLOB_WIDTH
    width = low + (high - low) * torch.rand(n, BLOBS_EACH, 1, generator=generator)
    place = BLOB_SPREAD * torch.randn(n, BLOBS_EACH, 2, generator=generator)
    blobs = torch.cat([width, place], 2)
    return Mixture(species, second, blobs, particles, settings.box_size, signal)
