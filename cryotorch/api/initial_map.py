"""First maps, from particles alone."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.api.inputs import (
    MapLike,
    ParticlesLike,
    Saved,
    files_of,
    path_of,
    saver,
    settings_of,
)
from cryotorch.jobs.config.parse import require
from cryotorch.particles import Particles
from cryotorch.report.sentences import said

if TYPE_CHECKING:
    from cryotorch.jobs.initial_map.steps import Made


@dataclass(frozen=True, eq=False)
class InitialMaps(Saved):
    """First maps, whose hand images cannot tell; ``found`` holds all of it.

    Attributes:
        maps: (k, d, d, d), the one of most particles first; pixel_size: Å.
        particles: with the poses that were found; share: (n, k) probability of each class.
        fit: correlation with ``like`` or ``model`` of this hand and of the other, None without it.
        warnings: what to look at, no structure for example.
    """

    maps: Tensor
    pixel_size: float
    particles: Particles
    share: Tensor
    fit: tuple[float, float | None] | None
    warnings: list[str]
    found: Made

    @property
    def map(self) -> Tensor:
        """(d, d, d) of the class of most particles."""
        return self.maps[0]


@checked
def ab_initio(
    particles: ParticlesLike,
    like: MapLike | None = None,
    pixel_size: float | None = None,
    **settings: Any,
) -> InitialMaps:
    """Maps and poses without an initial map: ``job=ab_initio``, without its folder.

    Args:
        particles: a file of particles, or one that was read.
        like: a map, whose hand the result is given; ``model`` takes the file of an atomic model instead.
        pixel_size: Å, of a map in memory that is no ``Map``.

    Raises:
        InputError: a parameter, the particles or a map cannot be used.
    """
    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs import ab_initio as job
    from cryotorch.jobs.initial_map.hand import with_hand
    from cryotorch.jobs.initial_map.inputs import read_inputs
    from cryotorch.jobs.initial_map.results import posed, write
    from cryotorch.jobs.initial_map.steps import make_maps

    started = time.perf_counter()
    with files_of(pixel_size) as named, torch.no_grad():
        settings |= {"particles": path_of(particles), "like": named("like", like)}
        given = settings_of("ab_initio", settings)
        named.require_pixel_size_used()
        several = "from Python it runs on one device, use the job for several"
        require(given.devices == 1, "devices", given.devices, several)
        inputs = read_inputs(given)
        read = time.perf_counter()
        made = with_hand(make_maps(inputs), inputs)
        made = replace(made, maps=made.maps.cpu(), findings=named.in_findings(made.findings))
        given = named.forget(given)
    seconds = {"read": read - started, "maps": time.perf_counter() - read}

    def write_all(given: Any, folder: Path) -> None:
        saved = replace(inputs.settings, out=given.out, like=given.like)
        write(folder, replace(inputs, settings=saved), made, seconds)

    return InitialMaps(
        made.maps,
        inputs.images.pixel_size,
        posed(inputs, made),
        made.found.share,
        made.fit,
        said(finding for finding in made.findings if finding.serious),
        made,
        _save=saver(given, job.FILES, write_all),
    )
