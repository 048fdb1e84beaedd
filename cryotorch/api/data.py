"""Maps and images from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import read_volume
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError

if TYPE_CHECKING:
    pass
from cryotorch.api.inputs import Map


def read_map(path: str | Path) -> Map:
    """The map of an MRC file; raises InputError where it is no cubic map, or states no pixel size."""
    volume, pixel_size = read_volume(path)
    if pixel_size is None:
        raise InputError(f"{path} does not state its pixel size: write it with write_map first")
    return Map(volume, pixel_size)


def read_images(
    file: ParticleFile, rows: list[int] | None = None, box_size: int | None = None
) -> Tensor:
    """Images (b, d, d) of a particle file, background 0, as a refinement sees them.

    Args:
        rows: which; None = all, which takes 4 d² bytes for each.
        box_size: pixels, even; smaller than the file's crops in Fourier space.

    Raises:
        InputError: a stack cannot be read.
    """
    images = ParticleImages(file, box_size)
    try:
        return images[list(range(len(images))) if rows is None else rows]
    finally:
        images.close()
