"""Particles of more than one species, and junk: which particle shows what, and what the others look like."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.jobs.simulation.particles import (
    Body,
    signal_power,
    signal_spectra,
    source_volume,
    summed_spectra,
)
from cryotorch.jobs.simulation.settings import Simulate
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack
from cryotorch.particles import Particles
from cryotorch.refinement.image_terms import transfer

SPECIES = "cryotorchSpecies"
FIRST, SECOND, NOISE, BLOBS, NEIGHBOURS = 1, 2, 3, 4, 5
# Blobs of an image: how many, their width and their standard deviation from the middle, as parts of the box edge.
BLOBS_EACH = 4
BLOB_WIDTH, BLOB_SPREAD = (0.03, 0.08), 0.12
# Two molecules on opposite sides of the middle, each this far from it, in box edges: the box ends within most of them.
NEIGHBOUR_PLACES = 0.3, 0.5


@dataclass(frozen=True)
class Mixture:
    """What the particles show.

    Attributes:
        species: (n,) int64, one of ``FIRST``, ``SECOND``, ``NOISE``, ``BLOBS``, ``NEIGHBOURS``.
        second: map and poses of the second species, or None.
        blobs: (n, c, 3) width and place (x, y) of the blobs of an image, in box edges.
        neighbours: two molecules, each the bodies of the first species with a pose for every image; places: (n, 2, 2)
            int64, pixels (x, y) that they lie off the middle.
        particles: with the CTF; box: pixels; signal: variance of a blob's image.
    """

    species: Tensor
    second: Body | None
    blobs: Tensor
    neighbours: Sequence[Sequence[Body]]
    places: Tensor
    particles: Particles
    box: int
    signal: float

    def spectra(self, of_first: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """A function from rows to the packed spectra (b, m) of their noise-free images, given that of the first species."""
        second = self.second and projector(self.second.volume)
        molecules = [summed_spectra(bodies) for bodies in self.neighbours]

        def spectra(rows: Tensor) -> Tensor:
            made, kind = of_first(rows), self.species[rows]
            if self.second is not None and second is not None:
                other = signal_spectra(second, self.second.particles, rows)
                made = torch.where((kind == SECOND)[:, None], other, made)
            made[kind == NOISE] = 0
            mine = kind == BLOBS
            if mine.any():
                made[mine] = self._blobs(rows[mine])
            mine = kind == NEIGHBOURS
            if mine.any():
                few = rows[mine]
                pair = [unpack(molecule(few), self.box) for molecule in molecules]
                moved = [
                    moved_off(*one) for one in zip(pair, self.places[few].unbind(1), strict=True)
                ]
                made[mine] = pack(moved[0] + moved[1])
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


def moved_off(images: Tensor, place: Tensor) -> Tensor:
    """Images (b, d, d) moved by whole pixels ``place`` (b, 2), (x, y); what leaves the box is lost, and nothing comes in."""
    box = images.shape[-1]
    source = torch.arange(box) - place[..., None]
    x, y = source.clamp(0, box - 1).unbind(1)
    inside_x, inside_y = ((source >= 0) & (source < box)).unbind(1)
    image = torch.arange(len(images))[:, None, None]
    moved = images[image, y[:, :, None], x[:, None, :]]
    return moved * (inside_y[:, :, None] & inside_x[:, None, :])


def draw_mixture(
    bodies: Sequence[Body], settings: Simulate, generator: torch.Generator
) -> Mixture | None:
    """Which of the particles show what; None where all show the first species, ``bodies``.

    Raises:
        InputError: the second species cannot be read, does not fit into the box, is blank or lacks the symmetry.
    """
    if settings.second_species is None and not settings.junk_share:
        return None
    particles = bodies[0].particles
    n, second = len(particles), None
    junk = round(settings.junk_share * n)
    species = torch.full((n,), FIRST)
    for part, which in enumerate((NOISE, BLOBS, NEIGHBOURS)):
        species[part * junk // 3 : (part + 1) * junk // 3] = which
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
    neighbours = bodies, [_of_next_particle(body) for body in bodies]
    places = _opposite_places(n, settings.box_size, generator)
    return Mixture(species, second, blobs, neighbours, places, particles, settings.box_size, signal)


def _of_next_particle(body: Body) -> Body:
    """A body in the pose of the next particle; the optics are those of each image."""
    poses = body.particles
    rotation, shift = poses.rotation.roll(-1, 0), poses.shift.roll(-1, 0)
    return body._replace(particles=poses.replace(rotation=rotation, shift=shift))


def _opposite_places(n: int, box: int, generator: torch.Generator) -> Tensor:
    near, far = NEIGHBOUR_PLACES
    angle = 2 * torch.pi * torch.rand(n, 1, generator=generator) + torch.tensor([0, torch.pi])
    distance = near + (far - near) * torch.rand(n, 2, generator=generator)
    place = torch.stack([angle.cos(), angle.sin()], 2) * distance[..., None]
    return (place * box).round().long()
