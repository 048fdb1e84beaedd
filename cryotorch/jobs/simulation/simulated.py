"""A simulated set in memory: bodies, poses and the state that its images are drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.jobs.simulation.mixture import Mixture, draw_mixture
from cryotorch.jobs.simulation.particles import (
    Body,
    draw_particles,
    signal_power,
    source_volume,
    summed_spectra,
    without_truth,
)
from cryotorch.jobs.simulation.second_body import (
    Rest,
    States,
    at_rest,
    in_two_states,
    poses_of_second,
)
from cryotorch.jobs.simulation.settings import Simulate
from cryotorch.particles import Particles


class Simulated(NamedTuple):
    """A set before its images are made.

    Attributes:
        bodies: with their true poses, on the grey scale of the images; rest: of a second body, both at rest, or None.
        states: of the second body, where it has two; mixture: which particles show something else, or None.
        settings: with what was found for them; draw: the state of the random numbers that the images come next from.
    """

    bodies: list[Body]
    rest: Rest | None
    states: States | None
    mixture: Mixture | None
    settings: Simulate
    draw: torch.Generator

    @property
    def species(self) -> Tensor | None:
        """(n,) what each particle shows, where they differ."""
        if self.states is not None:
            return self.states.species
        return None if self.mixture is None else self.mixture.species

    @property
    def second(self) -> Tensor | None:
        """(d, d, d) of the second species or state, if there is one."""
        if self.states is not None and self.rest is not None:
            return self.states.of_second(self.bodies, self.rest, self.settings.pixel_size)
        second = self.mixture and self.mixture.second
        return second and second.volume

    @property
    def volume(self) -> Tensor:
        """(d, d, d) of all bodies together."""
        first, *others = (body.volume for body in self.bodies)
        return first if not others else first + others[0]

    def spectra(self) -> Callable[[Tensor], Tensor]:
        """A function from rows to the packed spectra (b, m) of their noise-free images."""
        of_bodies = summed_spectra(self.bodies)
        return of_bodies if self.mixture is None else self.mixture.spectra(of_bodies)

    def blind(self) -> Particles:
        """The particles with CTF only, as far as it is to be known; draws random numbers, after the images."""
        return without_truth(self.bodies[0].particles, self.settings, self.draw)


def simulated(settings: Simulate) -> Simulated:
    """Molecule, poses and grey scale as the settings, lengths in Å, ask for.

    Raises:
        InputError: a source cannot be used.
    """
    rest, states = None if settings.second_body is None else at_rest(settings), None
    maps = [source_volume(settings)] if rest is None else rest.maps
    draw = torch.Generator().manual_seed(settings.seed)
    particles = draw_particles(settings, draw)
    poses = [particles]
    if rest is not None:
        settings = replace(settings, hinge=rest.hinge.tolist())
        if settings.second_body_states == "continuous":
            poses.append(poses_of_second(particles, rest, settings, draw))
        else:
            states = in_two_states(particles, rest, settings, draw)
            poses.append(states.particles)
    bodies = [Body(*body) for body in zip(maps, poses, strict=True)]
    gain = math.sqrt((settings.snr or 1.0) / signal_power(bodies, settings))
    bodies = [body._replace(volume=body.volume * gain) for body in bodies]
    mixture = draw_mixture(bodies, settings, draw)
    return Simulated(bodies, rest, states, mixture, settings, draw)
