"""3D classes with a search of poses."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cryotorch.api.calls import checked
from cryotorch.api.classes3d import MapClasses
from cryotorch.api.inputs import (
    IN_MEMORY,
    MapLike,
    ParticlesLike,
    files_of,
    path_of,
    saver,
    settings_of,
)
from cryotorch.jobs.config.parse import require
from cryotorch.report.sentences import said


@checked
def hetero_refine(
    particles: ParticlesLike,
    volume: MapLike | list[MapLike],
    pixel_size: float | None = None,
    **settings: Any,
) -> MapClasses:
    """Several maps from initial maps, and class and pose of all particles: ``job=hetero_refine``, without its folder.

    With ``junk=1`` the posteriors have one more column, of images that show no particle.

    Args:
        particles: a file of particles, or one that was read.
        volume: initial maps, one for each class or one for all; or the folder of a run.
        pixel_size: Å, of a map in memory that is no ``Map``.

    Raises:
        InputError: a parameter, the particles or a map cannot be used.
    """
    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs import hetero_refine as job
    from cryotorch.jobs.classification3d.results import judge_classes, write
    from cryotorch.jobs.classification3d.searched_inputs import read_inputs
    from cryotorch.jobs.classification3d.searched_steps import extras, refine_classes

    started = time.perf_counter()
    several = isinstance(volume, list)
    with files_of(pixel_size) as named, torch.no_grad():
        maps = volume if several else [volume]
        names = ["volume", *(f"volume_{at}" for at in range(2, len(maps) + 1))]
        paths = [named(name, one) for name, one in zip(names, maps, strict=True)]
        settings |= {"particles": path_of(particles), "volume": paths if several else paths[0]}
        given = settings_of("hetero_refine", settings)
        named.require_pixel_size_used()
        alone = "from Python it runs on one device, use the job for several"
        require(given.devices == 1, "devices", given.devices, alone)
        inputs = read_inputs(given)
        read = time.perf_counter()
        found, damaged = refine_classes(inputs)
        result = judge_classes(found, inputs.task.spectra.device, given.seed)
        given = replace(given, volume=IN_MEMORY) if named.made else given
    seconds = {"read": read - started, "classes": time.perf_counter() - read}

    def write_all(given: Any, folder: Path) -> None:
        more = extras(inputs, damaged, seconds)
        write(folder, Path(str(given.out)), result, given.write, more)

    return MapClasses(
        found.verdict is not None and found.verdict.seen,
        torch.stack([one.map for one in result.classes]),
        found.halves.cpu(),
        found.pixel_size,
        torch.tensor([one.resolution for one in result.classes]),
        found.particles,
        found.share.cpu(),
        said(finding for finding in result.findings if finding.serious),
        result,
        _save=saver(given, job.FILES, write_all),
    )
