"""Lists of images that others were made of, as by signal subtraction: what they remember, and the way back to the originals."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryotorch.data.half_sets import ORIGINAL_IMAGE
from cryotorch.data.optics import BOX
from cryotorch.data.particle_file import DEFOCUS_COLUMNS, ParticleFile
from cryotorch.data.particle_tables import NAME, ORIGINS
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.curation.particle_list import ParticleList, listed
from cryotorch.jobs.curation.poses import recentred
from cryotorch.jobs.inputs.image_names import named_as_originals

ORIGINAL_NAME = ORIGINAL_IMAGE[0]
# Å that the pixels of an image were moved by; Å of the originals' map that is the middle of theirs now; Å added to the defocus.
MOVE = ("cryotorchSubtractedMoveX", "cryotorchSubtractedMoveY")
CENTER = tuple(f"cryotorchSubtractedCenter{axis}" for axis in "XYZ")
FOCUS = "cryotorchSubtractedDefocus"
ORIGINAL_BOX = "cryotorchOriginalImageSize"  # of the optics groups, pixels


def originals(
    file: ParticleFile, project: str, out: str | Path
) -> tuple[ParticleList, list[Finding]]:
    """A file as a list that new images are made of, and what is to be told.

    Image names are whole paths, or relative to the ``project`` where they lie in it, as they have to be good wherever the list goes later. So are
    those of images that its own were made of before, where they are found.

    Raises:
        InputError: an image file is not found.
    """
    made, told = listed(file, project, out)
    with suppress(InputError):  # it names none, or they are gone
        first, _ = listed(named_as_originals(file), project, out)
        made = made.with_columns({ORIGINAL_NAME: first.table.raw(NAME)})
    return made, told


def remembering(
    particles: ParticleList,
    names: np.ndarray,
    box: np.ndarray,
    point: np.ndarray,
    move: np.ndarray,
    height: np.ndarray | None,
) -> ParticleList:
    """A list of new images that were made of its own, whose names and poses before all such changes can be found again.

    Args:
        particles: with the poses of the originals; names: (n,) of the new images; box: (g,) pixels of their optics groups.
        point: (3,) Å, what became the middle of the map; move: (n, 2) Å, what their pixels were moved by.
        height: (n,) Å, what is added to the defocus; None = nothing.
    """
    table, n = particles.table, len(particles)
    centred = recentred(particles, point) if point.any() else particles
    columns: dict[str, np.ndarray] = {NAME: np.array(names, dtype=bytes)}
    if point.any() or move.any():
        columns |= dict(zip(ORIGINS, (centred.shift() - move).T, strict=True))
    known = ORIGINAL_NAME in table and all(b"@" in x for x in table.raw(ORIGINAL_NAME).tolist())
    if not known:
        columns[ORIGINAL_NAME] = table.raw(NAME)
    values = (*zip(CENTER, np.tile(point, (n, 1)).T), *zip(MOVE, move.T))
    for label, more in values:
        columns[label] = particles.numbers(label) + more if label in table else more
    if height is not None:
        for label in DEFOCUS_COLUMNS[:2]:
            columns[label] = particles.numbers(label) + height
        columns[FOCUS] = height + (particles.numbers(FOCUS) if FOCUS in table else 0.0)
    made = centred.with_columns(columns)
    optics = made.optics.copy()
    if ORIGINAL_BOX not in optics and BOX in optics:
        optics[ORIGINAL_BOX] = optics.column(BOX)
    optics[BOX] = box
    return replace(made, tables={**made.tables, "optics": optics})


def returned(particles: ParticleList) -> tuple[ParticleList, list[Finding]]:
    """The poses and boxes of the originals for a list that names them again, with all that was refined since; what is to be told.

    Where a list does not say how its images were moved, as those of other programs, poses stay as they are.
    """
    optics = particles.optics.copy()
    box = optics.column(ORIGINAL_BOX) if ORIGINAL_BOX in optics else None
    for label in (BOX, ORIGINAL_BOX):
        optics.pop(label, None)
    if box is not None:
        optics[BOX] = box
    back = replace(particles, tables={**particles.tables, "optics": optics})
    if not all(label in back.table for label in (*MOVE, *CENTER)):
        return back, [Finding("originals_as_posed", file=str(back.path))]
    move, point = (np.stack([back.numbers(x) for x in labels], 1) for labels in (MOVE, CENTER))
    if move.any():
        shift = back.shift() + move
        back = back.with_columns(dict(zip(ORIGINS, shift.T, strict=True)))
    if point.any():
        back = recentred(back, -point)
    if FOCUS in back.table:
        height = back.numbers(FOCUS)
        back = back.with_columns({x: back.numbers(x) - height for x in DEFOCUS_COLUMNS[:2]})
    return back.without([*MOVE, *CENTER, FOCUS]), [remark("originals_again", file=str(back.path))]
