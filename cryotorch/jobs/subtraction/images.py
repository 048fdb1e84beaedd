"""The new images: what is stored less the projections, whole pixels moved and the margins cut off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryotorch.jobs.curation.originals import remembering
from cryotorch.jobs.curation.particle_list import ParticleList
from cryotorch.jobs.curation.poses import recentred
from cryotorch.jobs.subtraction.inputs import Prepared
from cryotorch.ops.geometry.placement import centre_of_mass

BYTES_AT_ONCE = 2**25  # of images that are worked on together
SIGNS = {None: 0.0, "positive": 1.0, "negative": -1.0}


@dataclass(frozen=True)
class Cut:
    """How the new images lie in the old ones.

    Attributes:
        point: (3,) Å from the middle of the map, what is its middle now.
        move: (n, 2) whole pixels that images are moved by, x and y; height: (n,) Å added to the defocus, or None.
        old, new: (n,) pixels per edge; pixel_size: (n,) Å.
    """

    point: np.ndarray
    move: np.ndarray
    height: np.ndarray | None
    old: np.ndarray
    new: np.ndarray
    pixel_size: np.ndarray

    @property
    def wrapped(self) -> int:
        """How many of the new images reach beyond the old ones, and show what lies at the other border there."""
        first = self.old[:, None] // 2 - self.new[:, None] // 2 - self.move
        last = first + self.new[:, None]
        return int(((first < 0) | (last > self.old[:, None])).any(1).sum())


def cut_of(prepared: Prepared, particles: ParticleList) -> Cut:
    """Where the new images lie; a group of other pixels gets a box that is as wide in Å."""
    s, images = prepared.settings, prepared.images
    size = particles.pixel_size()
    old = prepared.stacks.boxes[prepared.file.particles.address[:, 0].numpy()]
    new = old
    if s.box_size is not None:
        wide = s.box_size * images.pixel_size
        new = np.minimum(2 * np.round(wide / size / 2).astype(int), old)
    point, move, height = np.zeros(3), np.zeros((len(old), 2), int), None
    if s.recenter_on_mask:
        voxels = centre_of_mass(prepared.mask) - images.box // 2
        point = voxels.numpy() * images.pixel_size
        if s.defocus_height is not None:
            z = (particles.rotation() @ torch.from_numpy(point))[:, 2].numpy()
            height = -SIGNS[s.defocus_height] * z
    if s.recenter_on_mask or (new < old).any():
        shift = recentred(particles, point).shift()
        move = np.round(shift / size[:, None]).astype(int)
    return Cut(point, move, height, old, new, size)


def new_images(prepared: Prepared, cut: Cut, rows: np.ndarray) -> Iterator[Tensor]:
    """The images of some rows (m,), all of one box and pixel size, in parts (b, d, d)."""
    step = _at_once(prepared, int(cut.old[rows[0]]))
    for part in np.split(rows, range(step, len(rows), step)):
        stored = prepared.stored(part)
        less = subtracted(prepared, stored, part, float(cut.pixel_size[part[0]]))
        less /= prepared.images.grey(part.tolist())[:, None, None]
        yield _cut_out(stored - less, cut, part)


def subtracted(prepared: Prepared, stored: Tensor, rows: np.ndarray, pixel_size: float) -> Tensor:
    """What is subtracted from ``stored`` images (b, d, d) of rows (b,), on the grey scale of batches; nothing from blank ones, which stay so."""
    less = prepared.made.projections(torch.from_numpy(rows), stored.shape[-1], pixel_size)
    less[(stored == stored[:, :1, :1]).flatten(1).all(1)] = 0
    return less


def remembered(particles: ParticleList, names: np.ndarray, cut: Cut) -> ParticleList:
    """The list of the new images, named (n,), which knows the way back."""
    box = particles.optics.integers("rlnImageSize") if "rlnImageSize" in particles.optics else None
    group = particles.group()
    of_group = np.zeros(particles.optics.rows, int) if box is None else box.copy()
    of_group[group] = cut.new
    move = cut.move * cut.pixel_size[:, None]
    return remembering(particles, names, of_group, cut.point, move, cut.height)


def _cut_out(images: Tensor, cut: Cut, rows: np.ndarray) -> Tensor:
    """Images (b, d, d) moved by their whole pixels, and their middle; what is moved out at one border comes in at the other."""
    old, new = int(cut.old[rows[0]]), int(cut.new[rows[0]])
    move = torch.from_numpy(cut.move[rows])
    if new == old and not bool(move.any()):
        return images
    line = torch.arange(new) - new // 2 + old // 2
    x, y = ((line - steps[:, None]) % old for steps in move.T)
    return images[torch.arange(len(images))[:, None, None], y[:, :, None], x[:, None, :]]


def _at_once(prepared: Prepared, box: int) -> int:
    size = prepared.settings.minibatch_size
    return max(1, BYTES_AT_ONCE // (4 * box**2)) if size == "auto" else int(size)
