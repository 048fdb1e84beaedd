"""Maps, particles and images from files, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.api.inputs import Map, MapLike, file_name, length, map_of
from cryotorch.data import particle_file
from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import plain
from cryotorch.particles import Particles
from cryotorch.report.sentences import said


@checked
def read_map(path: str | Path) -> Map:
    """The map of an MRC file; raises InputError where it is no cubic map, or states no pixel size."""
    volume, pixel_size = read_volume(file_name("path", path))
    if pixel_size is None:
        raise InputError(f"{path} does not state its pixel size: write it with write_map first")
    return Map(volume, pixel_size)


@checked
def write_map(
    path: str | Path,
    volume: MapLike,
    pixel_size: float | None = None,
    corner: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Write a map (z, y, x), any three lengths, as MRC with float32. Same input, same bytes.

    Args:
        volume: a Map, or a tensor or array with ``pixel_size`` in Å.
        corner: (x, y, z) Å, where the first voxel lies in the coordinates of atomic models (MRC's ORIGIN).

    Raises:
        InputError: no map of finite real numbers, no pixel size, or a place that cannot be written.
    """
    place = file_name("path", path)
    found = map_of("volume", volume, length("pixel_size", pixel_size), cube=False)
    start = plain(corner)
    if not (isinstance(start, list) and len(start) == 3 and all(map(_number, start))):
        raise InputError(f"corner must be three numbers (x, y, z) in Å, got {corner}")
    write_volume(place, found.volume, found.pixel_size, (start[0], start[1], start[2]))


@checked
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
    place, number = file_name("path", path), plain(class_)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        raise InputError(f"class_ must be a whole number or None, got {number!r}")
    more = None if passthrough is None else file_name("passthrough", passthrough)
    file = particle_file.read_particles(place, of_class=number, passthrough=more)
    if class_ is None and passthrough is None:
        file = replace(file, as_read=file.particles)
    return file


@checked
def write_particles(path: str | Path, source: ParticleFile, particles: Particles) -> list[str]:
    """Write ``particles``, the same rows as in ``source``, as STAR, or for CryoSPARC where the name ends in .cs; what the format cannot say.

    All columns and tables of the source are kept, in order and to the digit; poses, half sets, scales, defocus and optics are
    those of ``particles``.

    Raises:
        InputError: other rows than those of the source, or a place that cannot be written.
    """
    place = file_name("path", path)
    if not isinstance(source, ParticleFile):
        raise InputError(
            f"source is of the type {type(source).__name__}: give what read_particles returned"
        )
    if not isinstance(particles, Particles):
        raise InputError(
            f"particles is of the type {type(particles).__name__}: give Particles, those of source.particles or changed ones"
        )
    if place.resolve() in {stack.resolve() for stack in source.stacks}:
        raise InputError(f"{path} holds images of these particles: choose another name")
    rows = source.tables["particles"].rows
    if len(particles) != rows:
        raise InputError(
            f"particles has {len(particles)} rows and {source.path} {rows}: give all of them, in their order"
        )
    return said(particle_file.write_particles(place, source, particles))


@checked
def read_images(
    file: ParticleFile, rows: Sequence[int] | Tensor | None = None, box_size: int | None = None
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
    box = plain(box_size)
    if box is not None and (isinstance(box, bool) or not isinstance(box, int)):
        raise InputError(f"box_size must be a whole number of pixels or None, got {box!r}")
    images = ParticleImages(file, box)
    wanted = list(range(len(images))) if rows is None else plain(rows)
    try:
        if not isinstance(wanted, list | range) or not all(type(row) is int for row in wanted):
            raise InputError(
                f"rows must be a list of whole numbers from 0 to {len(images) - 1}, got {str(rows)[:60]}"
            )
        if wanted and not 0 <= min(wanted) <= max(wanted) < len(images):
            raise InputError(
                f"rows must be from 0 to {len(images) - 1}, got {min(wanted)} to {max(wanted)}"
            )
        return images[list(wanted)]
    finally:
        images.close()


def _number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e9
