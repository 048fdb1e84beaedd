"""Continuous motion of particles with poses."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.api.inputs import ParticlesLike, Saved, path_of, saver, settings_of
from cryotorch.report.sentences import said

if TYPE_CHECKING:
    from cryotorch.jobs.components.steps import Made


@dataclass(frozen=True, eq=False)
class Variability(Saved):
    """Components of variability that are real, the largest first; ``found`` holds all that were looked for.

    Attributes:
        mean: (d, d, d); components: (k, d, d, d), one standard deviation each, k = 0 where the data support none; pixel_size: Å.
        coordinates, sigma: (n, k) of the particles, and their standard deviations.
        errors: (k,) standard errors by which the images of one half set are better explained with the component of the other one.
        warnings: what to look at.
    """

    mean: Tensor
    components: Tensor
    pixel_size: float
    coordinates: Tensor
    sigma: Tensor
    errors: Tensor
    warnings: list[str]
    found: Made


@checked
def variability(particles: ParticlesLike, **settings: Any) -> Variability:
    """Components of variability at the poses of the particles: ``job=variability``, without its folder.

    Args:
        particles: a file of particles with poses, or one that was read.

    Raises:
        InputError: a parameter or the particles cannot be used.
    """
    from cryotorch.jobs import variability as job
    from cryotorch.jobs.components.inputs import load
    from cryotorch.jobs.components.results import write
    from cryotorch.jobs.components.steps import analysed

    started = time.perf_counter()
    given = settings_of("variability", settings | {"particles": path_of(particles)})
    read = load(given)
    made = analysed(read)
    seconds, count = time.perf_counter() - started, int(made.real.sum())

    def write_all(given: Any, folder: Path) -> None:
        write(folder, read, made, seconds)

    return Variability(
        made.mean,
        made.components[:count],
        read.how.grid.pixel_size,
        made.position[:, :count],
        made.sigma[:, :count],
        made.gain.errors[:count],
        said(made.warnings),
        made,
        _save=saver(given, job.FILES, write_all),
    )
