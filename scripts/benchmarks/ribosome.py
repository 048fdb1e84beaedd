"""A large simulated set without files: images are made on the device when they are asked for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.jobs.simulation.particles import (
    Body,
    draw_particles,
    signal_power,
    summed_spectra,
    without_truth,
)
from cryotorch.jobs.simulation.settings import Simulate
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.models.gaussians import bfactor_to_sigma, gaussian_density
from cryotorch.ops.models.phantom import phantom_atoms
from cryotorch.particles import Particles

# So many phantoms folded into one another, each as for a box so much larger: in a box of 396 Å
# 2.4 MDa and up to 250 Å across, as a ribosome. One alone is a quarter as dense.
PHANTOMS, LARGER = 4, 1.25
# Counters to random words: SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195), with the
# unsigned numbers as torch's int64 holds them.
STEP, FIRST, SECOND = (
    number - 2**64 for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def ribosome_like(box: int, pixel_size: float, group: Tensor, device: torch.device) -> Tensor:
    """The density (d, d, d) of a molecule of a ribosome's size and mass, relative to the box."""
    edge = LARGER * box * pixel_size
    atoms = [phantom_atoms(edge, group, seed) for seed in range(PHANTOMS)]
    position, weight, bfactor = (torch.cat(part).to(device) for part in zip(*atoms, strict=True))
    blur = 0.225 * 2 * pixel_size  # as ``phantom`` has it
    sigma = (bfactor_to_sigma(bfactor) ** 2 + blur**2).sqrt()
    return gaussian_density(position, weight, sigma, box, pixel_size)


class MadeImages:
    """The images of simulated particles: ``images[rows]`` (b, d, d) on the device of the volume.

    The model is that of job=simulate. A row has the same image whatever rows it comes with.

    Attributes:
        box, pixel_size: of the images, as a refinement asks for them; settings: how they were made.
        volume: (d, d, d), on the grey scale at which the noise has variance 1.
        truth: the particles with their poses; particles: what a refinement may know of them.
    """

    def __init__(self, volume: Tensor, settings: Simulate) -> None:
        self.box, self.pixel_size = settings.box_size, settings.pixel_size
        self.settings, self._device = settings, volume.device
        draw = torch.Generator().manual_seed(settings.seed)
        self.truth = draw_particles(settings, draw)
        self.particles: Particles = without_truth(self.truth, settings, draw)
        body = Body(volume, self.truth.to(self._device))
        self.volume = volume * math.sqrt(settings.snr / signal_power([body], settings))
        self._spectra = summed_spectra([body._replace(volume=self.volume)])

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, rows: list[int]) -> Tensor:
        at = torch.tensor(rows, device=self._device)
        return unpack(self._spectra(at), self.box) + white_noise(at, self.box, self.settings.seed)


def white_noise(rows: Tensor, box: int, seed: int) -> Tensor:
    """Normal numbers (b, d, d) of variance 1 that depend on seed, row and pixel alone.

    Two pixels share a hashed counter: one half of it is a radius, the other an angle (Box & Muller
    1958, doi:10.1214/aoms/1177706645).
    """
    pairs = box * box // 2
    counter = rows[:, None] * pairs + torch.arange(pairs, device=rows.device)
    word = _mixed(counter.mul_(STEP).add_(_mixed(torch.tensor(seed + 1, device=rows.device))))
    low = (word & 0xFFFFFFFF).float()
    high = _shifted(word, 32).float()
    radius = ((high + 0.5) / 2**32).log_().mul_(-2).clamp_(min=0).sqrt_()
    return torch.view_as_real(torch.polar(radius, low * (2 * math.pi / 2**32))).view(-1, box, box)


def _mixed(word: Tensor) -> Tensor:
    word = (word ^ _shifted(word, 30)) * FIRST
    word = (word ^ _shifted(word, 27)) * SECOND
    return word ^ _shifted(word, 31)


def _shifted(word: Tensor, bits: int) -> Tensor:
    """To the right, zeros coming in: torch's own shift keeps the sign."""
    return (word >> bits) & (2 ** (64 - bits) - 1)
