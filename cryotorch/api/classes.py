"""2D classes of particles."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.api.inputs import ParticlesLike, Saved, path_of, saver, settings_of
from cryotorch.errors import InputError
from cryotorch.particles import Particles
from cryotorch.report.sentences import said

if TYPE_CHECKING:
    from cryotorch.jobs.classification.steps import Made


@dataclass(frozen=True, eq=False)
class Classes(Saved):
    """2D classes, the largest first; ``found`` holds all of it.

    Attributes:
        averages: (k, d, d); pixel_size: Å.
        share: (k,) part of the particles; resolution: (k,) Å, infinite where nothing may be claimed; suggested: (k,) bool, whether
            a class looks like particles.
        label: (n,) class of each particle, from 0; psi: (n,) its angle in the plane, radians; posterior: (n,) of that class.
        particles: with their shifts, which have no pose.
        warnings: what to look at.
    """

    averages: Tensor
    pixel_size: float
    share: Tensor
    resolution: Tensor
    suggested: Tensor
    label: Tensor
    psi: Tensor
    posterior: Tensor
    particles: Particles
    warnings: list[str]
    found: Made


@checked
def class2d(particles: ParticlesLike, **settings: Any) -> Classes:
    """2D classification: ``job=class2d``, without its folder.

    Args:
        particles: a file of particles, or one that was read.
        settings: those of that job; with ``select`` the particles of these classes are saved in a list of their own.

    Raises:
        InputError: a parameter or the particles cannot be used.
    """
    from cryotorch.jobs import class2d as job
    from cryotorch.jobs.classification.inputs import load
    from cryotorch.jobs.classification.results import with_classes, write
    from cryotorch.jobs.classification.selection import write_selected
    from cryotorch.jobs.classification.steps import classified

    started = time.perf_counter()
    path = path_of(particles)
    if Path(path).is_dir():
        raise InputError(f"particles={path} is a folder: name a file of particles")
    given = settings_of("class2d", settings | {"particles": path})
    read = load(given)
    made = classified(read)
    posed = with_classes(read, made)
    seconds = time.perf_counter() - started

    def write_all(given: Any, folder: Path) -> None:
        settings = replace(read.settings, out=given.out)
        write_selected(folder, settings, posed, made.judged.suggested.numpy())
        write(folder, replace(read, settings=settings), made, posed, seconds)

    found, judged = made.found, made.judged
    return Classes(
        found.averages.merged.cpu(),
        read.how.grid.pixel_size,
        found.share,
        judged.resolution,
        judged.suggested,
        found.label,
        found.psi,
        found.posterior,
        posed.particles,
        said(made.warnings),
        made,
        _save=saver(given, job.FILES, write_all),
    )
