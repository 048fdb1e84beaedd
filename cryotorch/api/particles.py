"""From particles to maps: simulate, refine, reconstruct."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.api.inputs import (
    Map,
    MapLike,
    ParticlesLike,
    Saved,
    WithHalfMaps,
    files_of,
    path_of,
    saver,
    settings_of,
)
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import in_angstrom
from cryotorch.jobs.inputs.source_run import doubts_of_result
from cryotorch.ops.resolution.claims import Background
from cryotorch.particles import Particles
from cryotorch.report.sentences import said
from cryotorch.results import IterationResult

if TYPE_CHECKING:
    from cryotorch.jobs.fsc.validate import Validation


@dataclass(frozen=True, eq=False)
class Simulated(Saved):
    """Simulated particles.

    Attributes:
        images: (n, d, d) float32, noise of variance 1.
        particles: the truth; blind: the same without poses.
        map: that was projected, on the grey scale of the images; pixel_size: Å.
    """

    images: Tensor
    particles: Particles
    blind: Particles
    map: Tensor
    pixel_size: float


@checked
def simulate(**settings: Any) -> Simulated:
    """Images of a molecule in random orientations, with CTF and white noise: ``job=simulate``, one body of one species.

    Raises:
        InputError: a parameter has no such name or value, or the source cannot be used.
    """
    from cryotorch.jobs import simulate as job
    from cryotorch.jobs.simulation.particles import images
    from cryotorch.jobs.simulation.simulated import simulated

    given = settings_of("simulate", settings)
    for name in ("second_body", "second_species", "junk_share"):
        if getattr(given, name):
            raise InputError(f"{name} cannot be used here: job=simulate writes such a set")
    made = simulated(in_angstrom(given, given.pixel_size))
    stack = torch.cat(list(images(made.spectra(), made.settings, made.draw)))

    def save(folder: Path, overwrite: bool) -> None:
        job.run(replace(given, out=str(folder), overwrite=overwrite))

    body = made.bodies[0]
    blind = made.blind()
    return Simulated(stack, body.particles, blind, body.volume, given.pixel_size, _save=save)


@dataclass(frozen=True, eq=False)
class Refined(WithHalfMaps):
    """A refinement after its last iteration; ``result`` holds all of it.

    Attributes:
        result: maps, curves, poses, numbers of every iteration, see ``IterationResult``.
        file: the particle file, whose columns ``save`` keeps; symmetry: name of the point group.
    """

    result: IterationResult
    file: ParticleFile
    symmetry: str

    @property
    def map(self) -> Tensor:
        """(d, d, d) of all particles, filtered by what the half maps show."""
        return self.result.map

    @property
    def half_maps(self) -> Tensor:
        """(2, d, d, d), without a filter."""
        return self.result.half_maps

    @property
    def halves(self) -> tuple[Map, Map, Background]:
        """Half map A and B, and what they have in common."""
        known = Background(self.result.group, self.result.shared, self.result.inserted)
        a, b = (Map(half, self.result.pixel_size) for half in self.half_maps)
        claims = math.isfinite(self.result.resolution)
        earlier = tuple(doubts_of_result("refine", self.result.warnings, claims))
        return a, b, known._replace(symmetry=self.symmetry, earlier=earlier)

    @property
    def particles(self) -> Particles:
        """With the poses that were found."""
        return self.result.particles

    @property
    def resolution(self) -> float:
        """Å that may be claimed, NaN where nothing can be."""
        return self.result.resolution

    @property
    def warnings(self) -> list[str]:
        """What is wrong with half maps, mask and curves, and what to do about it."""
        return said(self.result.warnings)


@checked
def refine(
    particles: ParticlesLike, volume: MapLike, mask: MapLike | None = None, **settings: Any
) -> Refined:
    """Maps and the poses of all particles from an initial map: ``job=homo_refine`` on one device, without its folder.

    Args:
        particles: a file of particles, or one that was read.
        volume: the initial map; mask: (d, d, d), else one is made of the density.

    Raises:
        InputError: a parameter, the particles or a map cannot be used.
    """
    from cryotorch.jobs.homo_refine import prepare

    return _refined("homo_refine", prepare, particles, volume, mask, settings)


@checked
def local_refine(
    particles: ParticlesLike, volume: MapLike, mask: MapLike | None, **settings: Any
) -> Refined:
    """A map of the region in ``mask`` from particles with poses: ``job=local_refine`` on one device, without its folder.

    Arguments and errors as for ``refine``; ``volume`` may be the folder of a refinement, for its half maps.
    """
    from cryotorch.jobs.config.parse import require
    from cryotorch.jobs.local_refine import NEEDED, prepare

    require(mask is not None, "mask", None, NEEDED["mask"])
    return _refined("local_refine", prepare, particles, volume, mask, settings)


def _refined(
    job: str,
    prepare: Callable,
    particles: ParticlesLike,
    volume: MapLike,
    mask: MapLike | None,
    settings: dict[str, Any],
) -> Refined:
    from cryotorch.jobs.files.run_folder import RESULTS
    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs.refinement.run import refine_in_memory
    from cryotorch.report.outputs import write_outputs

    pixel_size = settings.pop("pixel_size", None)
    with files_of(pixel_size) as named:
        settings |= {"particles": path_of(particles), "volume": named("volume", volume)}
        given = settings_of(job, settings | {"mask": named("mask", mask)})
        named.require_pixel_size_used()
        result, file = refine_in_memory(given, prepare)
    given = named.forget(given)

    def write_all(given: Any, folder: Path) -> None:
        write_outputs(folder, result, file, {"symmetry": given.symmetry}, given.write)

    names = *(name for name in RESULTS if name != "summary.json"), "summary.json"
    save = saver(given, names, write_all)
    return Refined(result, file, given.symmetry.upper(), _save=save)


@dataclass(frozen=True, eq=False)
class Reconstruction(WithHalfMaps):
    """A map from known poses.

    Attributes:
        map: (d, d, d) of all particles, filtered; half_maps: (2, d, d, d), not; map_sharp: (d, d, d); pixel_size: Å.
        fsc: the curves of the half maps, their mask and what they claim.
        particles: with the poses that were used.
    """

    map: Tensor
    half_maps: Tensor
    map_sharp: Tensor
    pixel_size: float
    fsc: Validation
    particles: Particles

    @property
    def halves(self) -> tuple[Map, Map, Background]:
        """Half map A and B, and what they have in common."""
        a, b = (Map(half, self.pixel_size) for half in self.half_maps)
        doubted = doubts_of_result("reconstruct", self.fsc.warnings, self.fsc.claims)
        return a, b, self.fsc.known._replace(earlier=tuple(doubted))

    @property
    def resolution(self) -> float:
        """Å that may be claimed, NaN where nothing can be."""
        return self.fsc.resolution


@checked
def reconstruct(
    particles: ParticlesLike, mask: MapLike | None = None, **settings: Any
) -> Reconstruction:
    """A map from particles whose poses are known: ``job=reconstruct``.

    Raises:
        InputError: a parameter or the particles cannot be used, poses are missing.
    """
    from cryotorch.jobs import reconstruct as job
    from cryotorch.jobs.reconstruction.from_poses import reconstructed

    pixel_size = settings.pop("pixel_size", None)
    with files_of(pixel_size) as named:
        settings |= {"particles": path_of(particles), "mask": named("mask", mask)}
        given = settings_of("reconstruct", settings)
        named.require_pixel_size_used()
        made = reconstructed(given, time.perf_counter())
    given, judged = named.forget(given), made.found.judged
    judged = replace(judged, warnings=named.in_findings(judged.warnings))
    made = replace(made, found=replace(made.found, judged=judged))

    def write_all(given: Any, folder: Path) -> None:
        job.write_files(given, folder, made)

    found = made.found
    maps = found.map, found.halves.maps, found.sharp, found.halves.pixel_size
    return Reconstruction(
        *maps, found.judged, made.particles, _save=saver(given, job.FILES, write_all)
    )
