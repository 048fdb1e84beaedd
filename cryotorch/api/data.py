"""Maps, particles and images from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from cryotorch.api.inputs import Map
from cryotorch.data import particle_file
from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import read_volume
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError


def read_map(path: str | Path) -> Map:
    """The map of an MRC file; raises InputError where it is no cubic map, or states no pixel size."""
    volume, pixel_size = read_volume(path)
    if pixel_size is None:
        raise InputError(f"{path} does not state its pixel size: write it with write_map first")
    return Map(volume, pixel_size)


def read_particles(
    path: str | Path, class_: int | None = None, passthrough: str | Path | None = None
) -> ParticleFile:
    """A particle file, STAR or .cs, with ``particles`` as tensors, the stacks that hold their images, and all columns as tables.

    Args:
        class_: the class whose particles are read alone, counted as the file does: from 1 in STAR, from 0 in .cs.
        passthrough: .cs file with the fields that a .cs file lacks.

    Raises:
        InputError: anything missing, doubled, contradictory or not a number, with what to do.
    """
    file = particle_file.read_particles(path, of_class=class_, passthrough=passthrough)
    if class_ is None and passthrough is None:
        file = replace(file, as_read=file.particles)
    return file


def read_images(
    file: ParticleFile, rows: list[int] | None = None, box_size: int | None = None
) -> Tensor:
    """Images (b, d, d) of a particle file, background 0, as a refinement sees them.

    Args:
        rows: which, from 0; None = all, which takes 4 d² bytes for each.
        box_size: pixels, even; smaller than the file's crops in Fourier space.

    Raises:
        InputError: a row that there is not, or a stack that cannot be read.
    """
    if not isinstance(file, ParticleFile):
        raise InputError("read_images takes what read_particles returned")
    images = ParticleImages(file, box_size)
    wanted = list(range(len(images))) if rows is None else list(rows)
    try:
        if wanted and not 0 <= min(wanted) <= max(wanted) < len(images):
            raise InputError(
                f"rows must be from 0 to {len(images) - 1}, got {min(wanted)} to {max(wanted)}"
            )
        return images[wanted]
    finally:
        images.close()
