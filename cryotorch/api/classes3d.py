"""3D classes of particles at the poses they have."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.api.inputs import ParticlesLike, Saved, path_of, saver, settings_of
from cryotorch.jobs.config.parse import require
from cryotorch.particles import Particles
from cryotorch.report.sentences import said

if TYPE_CHECKING:
    from cryotorch.jobs.classification3d.results import Result


@dataclass(frozen=True, eq=False)
class MapClasses(Saved):
    """3D classes; ``found`` holds all of it.

    Attributes:
        several: whether the particles show more than one state; where not, the classes divide alike particles.
        maps: (k, d, d, d), each filtered by its FSC; half_maps: (2, k, d, d, d), unfiltered; pixel_size: Å.
        resolution: (k,) Å that may be claimed, NaN where nothing can be.
        particles: with half sets; share: (n, k) probability of each class.
        warnings: what to look at.
    """

    several: bool
    maps: Tensor
    half_maps: Tensor
    pixel_size: float
    resolution: Tensor
    particles: Particles
    share: Tensor
    warnings: list[str]
    found: Result


@checked
def classify(particles: ParticlesLike, **settings: Any) -> MapClasses:
    """3D classes at fixed poses: ``job=classify``, without its folder.

    Args:
        particles: a file of particles with poses, or one that was read.

    Raises:
        InputError: a parameter or the particles cannot be used.
    """
    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs import classify as job
    from cryotorch.jobs.classification3d.fixed_inputs import read_inputs
    from cryotorch.jobs.classification3d.fixed_steps import classified
    from cryotorch.jobs.classification3d.results import extras, judge_classes, write
    from cryotorch.jobs.inputs.device import pick_device
    from cryotorch.refinement.runtime.kept import Kept
    from cryotorch.refinement.runtime.team import Team

    started = time.perf_counter()
    with torch.no_grad():
        given = settings_of("classify", settings | {"particles": path_of(particles)})
        several = "from Python it runs on one device, use the job for several"
        require(given.devices == 1, "devices", given.devices, several)
        device = pick_device(given.device)
        inputs = read_inputs(given, device)
        read = time.perf_counter()
        found, damaged = classified(inputs, Team(), Kept(device=device))
        result = judge_classes(found, device, given.seed)
    seconds = {"read": read - started, "classes": time.perf_counter() - read}

    def write_all(given: Any, folder: Path) -> None:
        more = extras(replace(inputs.settings, out=given.out), damaged, seconds)
        write(folder, folder, result, given.write, more)

    return MapClasses(
        several=found.several,
        maps=torch.stack([one.map for one in result.classes]),
        half_maps=found.halves.cpu(),
        pixel_size=found.pixel_size,
        resolution=torch.tensor([one.resolution for one in result.classes]),
        particles=found.particles,
        share=found.share,
        warnings=said(finding for finding in result.findings if finding.serious),
        found=result,
        _save=saver(given, job.FILES, write_all),
    )
