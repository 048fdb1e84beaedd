"""Images without what a mask leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import plain, require
from cryotorch.particles import Particles
from cryotorch.report.sentences import said

if TYPE_CHECKING:
    from cryotorch.jobs.subtraction.images import Cut
    from cryotorch.jobs.subtraction.inputs import Prepared


@dataclass(frozen=True, eq=False)
class Subtracted(Saved):
    """Images less the projections of what a mask leaves out; ``save`` writes stacks and lists as the job does.

    Attributes:
        particles: with the origins, and where that was asked for the defocus, of the new images.
        center: (3,) Å from the middle of the map, what is its middle now.
        left: what of it the images still hold, as a part of it; negative where too much was subtracted.
        warnings: what to look at.
    """

    particles: Particles
    center: Tensor
    left: float
    warnings: list[str]
    _prepared: Prepared
    _cut: Cut

    def images(self, rows: Sequence[int] | Tensor | None = None) -> Tensor:
        """Some of the new images (b, d, d), made now; all have one box and pixel size, or InputError is raised. None = all."""
        from cryotorch.jobs.subtraction.images import new_images

        n = len(self.particles)
        wanted = np.array(list(range(n)) if rows is None else plain(rows))
        if wanted.dtype.kind != "i" or wanted.ndim != 1 or not len(wanted):
            raise InputError(f"rows must be a list of whole numbers from 0 to {n - 1}")
        if wanted.min() < 0 or wanted.max() >= n:
            raise InputError(
                f"rows must be from 0 to {n - 1}, got {wanted.min()} to {wanted.max()}"
            )
        cut = self._cut
        kinds = np.unique(np.stack([cut.old, cut.new, cut.pixel_size], 1)[wanted], axis=0)
        if len(kinds) > 1:
            raise InputError(
                "rows have images of several boxes or pixel sizes: ask for one of them"
            )
        return torch.cat(list(new_images(self._prepared, cut, wanted)))


@checked
def subtract(
    particles: ParticlesLike, volume: MapLike, mask: MapLike | None, **settings: Any
) -> Subtracted:
    """Images of what is inside ``mask``: ``job=subtract``, without its folder.

    Args:
        particles: a file of particles with poses, or one that was read.
        volume: the folder of their refinement, for its half maps, or one map; mask: (d, d, d) of what is kept.

    Raises:
        InputError: a parameter, the particles or a map cannot be used.
    """
    from cryotorch.jobs import subtract as job
    from cryotorch.jobs.curation.originals import originals
    from cryotorch.jobs.subtraction.images import cut_of, remembered
    from cryotorch.jobs.subtraction.inputs import prepare

    require(mask is not None, "mask", None, job.NEEDED["mask"])
    pixel_size = settings.pop("pixel_size", None)
    with files_of(pixel_size) as named:
        settings |= {"particles": path_of(particles), "volume": named("volume", volume)}
        given = settings_of("subtract", settings | {"mask": named("mask", mask)})
        named.require_pixel_size_used()
        made = prepare(given)
        warnings = said(named.in_findings(x for x in made.told if x.serious))
    made = replace(made, settings=named.forget(made.settings))
    rows, _ = originals(made.file, ".", ".")
    cut = cut_of(made, rows)
    new = remembered(rows, rows.table.raw("rlnImageName"), cut)
    moved = made.file.particles.replace(shift=torch.from_numpy(new.shift()).float())
    if cut.height is not None:
        defocus = moved.defocus.clone()
        defocus[:, :2] += torch.from_numpy(cut.height).float()[:, None]
        moved = moved.replace(defocus=defocus)

    def write_all(given: Any, folder: Path) -> None:
        job.write_files(given, folder, made)

    numbers = torch.from_numpy(cut.point), made.left
    save = saver(made.settings, job.FILES, write_all)
    return Subtracted(moved, *numbers, warnings, made, cut, _save=save)
