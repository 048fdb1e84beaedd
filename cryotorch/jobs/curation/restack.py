"""The images of a list in new stacks, each once, in the order of the list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryotorch.data.image_names import find_stacks
from cryotorch.data.mrc import write_stack
from cryotorch.data.stacks import Stacks
from cryotorch.errors import InputError
from cryotorch.jobs.curation.particle_list import ParticleList
from cryotorch.jobs.files.output_folder import require_disk

BYTES_AT_ONCE = 2**26  # of images read together


def restacked(
    particles: ParticleList, folder: Path, stem: str, dtype: str, most: int
) -> tuple[ParticleList, list[str]]:
    """The list with the names of new stacks, which are written to ``folder`` and read again, and these names.

    Args:
        stem: of the names, ``<stem>.mrcs`` or, where there are several, ``<stem>_001.mrcs``; dtype: float32 or float16; most: images in each.

    Raises:
        InputError: an image file is missing, values do not fit into the type, or what is read again is not what was written.
    """
    used = np.unique(particles.image[:, 0])
    names = [particles.stacks[stack] for stack in used.tolist()]
    opened = Stacks(find_stacks(names, particles.path, None))
    address = particles.image.copy()
    address[:, 0] = np.searchsorted(used, address[:, 0])
    opened.check(address)
    _, first, image = np.unique(particles.image_code(), return_index=True, return_inverse=True)
    once = np.sort(first)  # rows whose images are written, in order
    place_of = np.argsort(np.argsort(first))[image.ravel()]  # of each row among these
    address, pixel_size = address[once], particles.pixel_size()[once]
    box = opened.boxes[address[:, 0]]
    sizes, kind = np.unique(np.stack([box, pixel_size], 1), axis=0, return_inverse=True)
    require_disk(folder, float((box.astype(float) ** 2).sum()) * np.dtype(dtype).itemsize)
    parts: list[np.ndarray] = []
    for number in range(len(sizes)):  # boxes and pixel sizes are not mixed
        rows = np.flatnonzero(kind.ravel() == number)
        parts += np.split(rows, range(most, len(rows), most))
    made, stack, index = [], np.empty(len(once), int), np.empty(len(once), int)
    for number, rows in enumerate(parts):
        name = f"{stem}.mrcs" if len(parts) == 1 else f"{stem}_{number + 1:03d}.mrcs"
        made.append(name)
        stack[rows], index[rows] = number, np.arange(len(rows))
        edge = int(box[rows[0]])
        chunks = _chunks(opened, address[rows], edge)
        write_stack(folder / name, chunks, len(rows), edge, float(pixel_size[rows[0]]), dtype)
        _check(folder / name, opened, address[rows], dtype)
    image_of = np.stack([stack[place_of], index[place_of]], 1)
    texts = [f"{i + 1:06d}@{made[s]}" for s, i in image_of.tolist()]
    renamed = particles.with_columns({"rlnImageName": np.array(texts, dtype=bytes)})
    return replace(renamed, stacks=made, image=image_of), made


def _chunks(opened: Stacks, address: np.ndarray, box: int) -> Iterator[np.ndarray]:
    step = max(1, BYTES_AT_ONCE // (4 * box**2))
    for start in range(0, len(address), step):
        yield opened.read(address[start : start + step])


def _check(path: Path, opened: Stacks, address: np.ndarray, dtype: str) -> None:
    """Raise InputError unless a stack holds the images at addresses (n, 2), to the last bit of its type."""
    written = Stacks([path])
    box, start = int(written.boxes[0]), 0
    for images in _chunks(opened, address, box):
        rows = np.arange(start, start + len(images))
        start += len(images)
        found = written.read(np.stack([np.zeros_like(rows), rows], 1))
        if not np.array_equal(found, images.astype(dtype).astype(np.float32)):
            raise InputError(
                f"{path.name} does not hold what was written to it: check the disk, and that nothing changes the images meanwhile"
            )
    written.close()
