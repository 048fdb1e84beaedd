"""A second rigid body in simulated particles: both maps at rest, the hinge, the poses, and files for local refinement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.atoms import Atoms, read_atoms
from cryotorch.data.mrc import write_volume
from cryotorch.data.particle_file import ParticleFile, write_particles
from cryotorch.errors import InputError
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.jobs.simulation import particles as simulation
from cryotorch.jobs.simulation.particles import Body
from cryotorch.jobs.simulation.settings import Simulate
from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.ops.geometry.symmetry import move_volume
from cryotorch.ops.masks.soft import density_region, grow_in_box
from cryotorch.ops.models.two_body_phantom import (
    meeting_point,
    moved_poses,
    random_motions,
    two_body_phantom,
)
from cryotorch.particles import Particles
from cryotorch.refinement.half_sets import draw_half_sets

# What counts as density of a body: above this share of its peak after a low-pass at so many Å.
BODY_THRESHOLD, BODY_LOW_PASS = 0.15, 12.0
# Masks are one up to so many Å beyond the density; then a cosine of a dozen voxels, fewer in a small box.
MASK_NEAR = 3.0
MASK_EDGE, EDGE_SHARE = 12, 0.1


@dataclass(frozen=True)
class Rest:
    """The two bodies at rest.

    Attributes:
        maps: (2, d, d, d), on one grid and grey scale.
        regions: (2, d, d, d) bool, where each has density.
        hinge: (3,) float64, (x, y, z) in voxels from the corner.
    """

    maps: Tensor
    regions: Tensor
    hinge: Tensor

    def place(self, pixel_size: float) -> Tensor:
        """The hinge (3,) in Å from the origin of the box."""
        return (self.hinge - self.maps.shape[-1] // 2) * pixel_size


def at_rest(settings: Simulate) -> Rest:
    """Both bodies and the hinge between them.

    Raises:
        InputError: a symmetry, sources of different kinds, or a file that cannot be read or does not fit.
    """
    if len(symmetry_group(settings.symmetry)) > 1:
        raise InputError(
            f"second_body={settings.second_body} cannot be used with symmetry={settings.symmetry}: a body that moves by "
            "itself breaks the symmetry, use symmetry=C1"
        )
    maps = _maps(settings)
    regions = []
    for name, volume in zip(("source", "second_body"), maps, strict=True):
        try:
            regions.append(
                density_region(volume, settings.pixel_size, BODY_THRESHOLD, BODY_LOW_PASS)
            )
        except ValueError as error:
            raise InputError(f"{name}={getattr(settings, name)} cannot be used: {error}") from None
    if settings.hinge is None:
        hinge = meeting_point(*regions).round(decimals=2)
    else:
        hinge = torch.tensor(settings.hinge, dtype=torch.float64)
    return Rest(torch.stack(maps), torch.stack(regions), hinge)


def _maps(settings: Simulate) -> list[Tensor]:
    sources = (settings.source, settings.second_body)
    kinds = [simulation.kind(source) for source in sources]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"second_body={sources[1]} cannot be used with source={sources[0]}: give two maps, two atomic models, or "
            "phantom for both"
        )
    box, pixel_size = settings.box_size, settings.pixel_size
    if kinds[0] == "phantom":
        size, seed = settings.second_body_size, settings.phantom_seed
        maps = list(two_body_phantom(box, pixel_size, size, seed, settings.resolution))
    elif kinds[0] == "map":
        maps = [simulation.map_on_grid(Path(s), box, pixel_size) for s in sources]
    else:
        models = [read_atoms(s, settings.assembly, centre=False) for s in sources]
        maps = [
            simulation.density_on_grid(model, settings, source)
            for model, source in zip(_centred(models), sources, strict=True)
        ]
    return [
        simulation.finished(volume, settings, name, source)
        for volume, name, source in zip(maps, ("source", "second_body"), sources, strict=True)
    ]


def _centred(models: list[Atoms]) -> list[Atoms]:
    """Two models moved as one, their common centre of mass to the origin."""
    together = Atoms(*(torch.cat(columns) for columns in zip(*map(_columns, models), strict=True)))
    centre = together.centre_of_mass()
    return [Atoms(m.position - centre, m.weight, m.bfactor) for m in models]


def _columns(atoms: Atoms) -> tuple[Tensor, Tensor, Tensor]:
    return atoms.position, atoms.weight, atoms.bfactor


def poses_of_second(
    particles: Particles, rest: Rest, settings: Simulate, generator: torch.Generator
) -> Particles:
    """The particles with the poses of their second body, moved at random about the hinge."""
    turn, move = random_motions(
        len(particles),
        math.radians(settings.second_body_rotation),
        settings.second_body_shift,
        generator,
    )
    poses = particles.rotation, particles.shift, turn, move, rest.place(settings.pixel_size)
    rotation, shift = moved_poses(*poses)
    return particles.replace(rotation=rotation.float(), shift=shift.float())


class States(NamedTuple):
    """The second body in two states.

    Attributes:
        particles: its poses, and a scale of 0 where it is absent; species: (n,) int64, 1 = at rest, 2 = the other state.
        turn, move: (3, 3) and (3,) Å of the other state, about the hinge; None where it is absent.
    """

    particles: Particles
    species: Tensor
    turn: Tensor | None
    move: Tensor | None

    def of_second(self, bodies: Sequence[Body], rest: Rest, pixel_size: float) -> Tensor:
        """The map (d, d, d) of both bodies where the second is in the other state."""
        first, second = (body.volume for body in bodies)
        if self.turn is None or self.move is None:
            return first
        place = rest.place(pixel_size)
        start, box = place - self.turn @ place + self.move, len(first)
        moved = move_volume(second, pixel_size, self.turn, start, box, pixel_size)
        return first + moved


def in_two_states(
    particles: Particles, rest: Rest, settings: Simulate, generator: torch.Generator
) -> States:
    """A share of the particles, drawn at random, in the other state of their second body."""
    n = len(particles)
    species = torch.ones(n, dtype=torch.int64)
    species[: round(settings.second_body_share * n)] = 2
    species = species[torch.randperm(n, generator=generator)]
    other = species == 2
    if settings.second_body_states == "absent":
        scale = particles.scale.masked_fill(other, 0.0)
        return States(particles.replace(scale=scale), species, None, None)
    direction = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    axis, along = direction / direction.norm(dim=1, keepdim=True)
    turn = from_rotation_vector(axis * math.radians(settings.second_body_rotation))
    move, place = along * settings.second_body_shift, rest.place(settings.pixel_size)
    poses = particles.rotation, particles.shift, turn.expand(n, 3, 3), move.expand(n, 3), place
    rotation, shift = moved_poses(*poses)
    moved = particles.replace(
        rotation=torch.where(other[:, None, None], rotation.float(), particles.rotation),
        shift=torch.where(other[:, None], shift.float(), particles.shift),
    )
    return States(moved, species, turn, move)


def write(
    folder: Path,
    bodies: list[Body],
    rest: Rest,
    source: ParticleFile,
    settings: Simulate,
    columns: Mapping[str, np.ndarray],
) -> None:
    """Maps and masks of the bodies at rest, poses of the second, and those of the first with half sets."""
    pixel_size = settings.pixel_size
    near = MASK_NEAR / pixel_size
    far = near + min(MASK_EDGE, EDGE_SHARE * settings.box_size)
    for number, (body, region) in enumerate(zip(bodies, rest.regions, strict=True), 1):
        mask, _ = grow_in_box(region, near, far)
        write_volume(folder / f"truth_body{number}.mrc", body.volume, pixel_size)
        write_volume(folder / f"mask_body{number}.mrc", mask, pixel_size)
    first, second = (body.particles for body in bodies)
    write_particles(folder / "truth_body2.star", source, second, columns)
    known, half = source.particles, draw_half_sets(len(first), settings.seed)
    start = first.replace(half=half, defocus=known.defocus, optics=known.optics)
    write_particles(folder / "consensus.star", source, start, columns)
