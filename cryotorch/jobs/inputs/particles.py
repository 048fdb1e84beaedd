"""Particles as the input of a job: the file, the class that is chosen, and what their half sets have in common."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cryotorch.data.half_sets import SHARED_RESOLUTION, shared_resolution
from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import (
    ParticleFile,
    read_particles,
    try_tables,
    updated_tables,
)
from cryotorch.findings import Finding, remark
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")


def load_particles(
    path: str | Path, of_class: int | None, written: Any = None, **needs: bool
) -> ParticleFile:
    """A particle file, or the particles of one class in it; what is worth knowing is logged.

    Args:
        written: settings with ``out`` and the formats ``write`` of a job that writes these particles in the end; None where none are.
        needs: those of ``read_particles``, which see for InputError.

    Raises:
        InputError: it cannot be used, or could not be written in the end.
    """
    file = read_particles(path, of_class=of_class, **needs)
    if written is not None and written.out is not None:
        for ending in dict.fromkeys(written.write):
            path = Path(written.out) / f"particles.{ending}"
            try_tables(path, updated_tables(path, file, file.particles, {}))
    for message in file.messages:
        log.info(line(message))
    return file


def rows_of(file: ParticleFile, rows: Tensor) -> ParticleFile:
    """Some of the particles of a file, ``rows`` (r,)."""
    tables = {**file.tables, "particles": file.tables["particles"].taken(rows.numpy())}
    sign = None if file.sign is None else file.sign[rows.numpy()]
    return replace(file, tables=tables, particles=file.particles[rows], sign=sign)


def shared_before(
    file: ParticleFile, told: float | None, resplit: bool
) -> tuple[float | None, list[Finding]]:
    """Up to which resolution, Å, given poses had the two half sets aligned to one map, and what is to be said about it.

    None where nobody knows; ``told``: by the user, Å. The finer counts of what the file and the user say. It is serious where
    a resolution may be claimed that the images do not hold.
    """
    stated = shared_resolution(file.tables["particles"], file.path)
    known = [value for value in (told, stated) if value is not None]
    shared = min(known) if known else None
    if resplit and told is None:
        return shared, [Finding("half_sets_mixed")]
    if shared is None:
        where = dict(file=str(file.path), column=SHARED_RESOLUTION)
        return None, [remark("shared_unknown", **where)]
    by = f"shared_resolution={told:g}" if shared == told else f"{SHARED_RESOLUTION} in {file.path}"
    return shared, [remark("shared_known", resolution=shared, source=by)]


def normalize_needed(images: ParticleImages, choice: bool | str) -> bool:
    """Whether all images should be brought to one background level; "auto" looks at how much they differ in general.

    Unless ``choice`` is False, a single image that is far from the level of its set is brought to it in any case.
    """
    if choice is False:
        return False
    level = images.judge_level()
    if choice == "auto" and level.differs:
        log.info(
            "the background of the images differs in general, by %.0f %%: each is divided by its own standard deviation",
            100 * level.scatter,
        )
    return bool(choice) if choice != "auto" else level.differs
