"""Lists of particles between refinements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryotorch.api.calls import checked
from cryotorch.api.inputs import ParticlesLike, Saved, path_of, settings_of
from cryotorch.jobs.curation.particle_list import ParticleList
from cryotorch.report.sentences import said


@dataclass(frozen=True, eq=False)
class SelectedParticles(Saved):
    """A list of particles after the steps that were asked for; ``save`` writes it as the job does.

    Attributes:
        rows: (m,) which of the particles that were read stay, counted from 0, before they are expanded.
        counts: name of each step -> how many particles it left.
        warnings: what to look at.
    """

    rows: np.ndarray
    counts: dict[str, int]
    warnings: list[str]
    _particles: ParticleList

    def column(self, label: str) -> np.ndarray:
        """A column of numbers (n,) of the list, after all steps; raises InputError where it is none."""
        return self._particles.numbers(label)

    def __len__(self) -> int:
        return len(self._particles)


@checked
def select_particles(
    particles: ParticlesLike | list[ParticlesLike], **settings: Any
) -> SelectedParticles:
    """Particles joined, chosen, compared, expanded or recentred: ``job=particles``, without its folder.

    Args:
        particles: a file of particles, or one that was read, or several.

    Raises:
        InputError: a parameter or the particles cannot be used, or none are left.
    """
    from cryotorch.jobs import particles as job
    from cryotorch.jobs.curation.steps import curated

    several = isinstance(particles, list | tuple)
    files = [path_of(one) for one in particles] if several else path_of(particles)
    given = settings_of("particles", settings | {"particles": files})
    made = curated(given, lambda step: None)

    def save(folder: Path, overwrite: bool) -> None:
        job.run(replace(given, out=str(folder), overwrite=overwrite))

    counts = {step.name: step.after for step in made.steps}
    # names are made good when it is known where the list goes
    told = [x for x in made.told if x.serious and x.code not in ("names_absolute", "names_lost")]
    return SelectedParticles(made.rows, counts, said(told), made.particles, _save=save)
