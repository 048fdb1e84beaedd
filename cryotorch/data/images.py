"""Particle images as a torch Dataset of batches: read, cropped in Fourier space, background at zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cryotorch.data.cache import CachedImages, content_key
from cryotorch.data.particle_file import ParticleFile
from cryotorch.data.stacks import Stacks
from cryotorch.errors import InputError
from cryotorch.ops.fourier import resize_images


class ParticleImages(Dataset):
    """The images of a particle file at a box, protein bright if it was bright in the file or ``invert`` is set.

    ``images[rows]`` with a list of rows is a batch (b, box, box) float32, and so is what a ``DataLoader`` with
    ``collate_fn=lambda batch: batch`` gets: whole batches are read at once. Rows in file order are fastest.
    The mean of the pixels beyond radius box / 2 (the corners, free of particle) is subtracted from each image.

    Args:
        file: from ``read_particles``.
        box: even, at most the box as extracted, which is the default; images are cropped in Fourier space.
        cache_dir: folder on a fast disk for prepared images; None reads the stacks every time.
        invert: change the sign: for stacks with dark protein.

    Attributes:
        box: pixels per edge of the batches.
        pixel_size: Å, at that box.
        normalise: divide each image by the standard deviation of its background; may be set later.

    Raises:
        InputError: the box does not fit, or a stack or the cache cannot be used.
    """

    def __init__(
        self,
        file: ParticleFile,
        box: int | None = None,
        cache_dir: str | Path | None = None,
        invert: bool = False,
    ):
        self._stacks = Stacks(file.stacks)
        full = self._stacks.box
        self.box = full if box is None else int(box)
        if self.box % 2 or not 2 <= self.box <= full:
            raise InputError(
                f"box_size must be even and at most {full}, got {self.box}: choose a smaller box."
            )
        self.pixel_size = file.pixel_size * full / self.box
        self.invert = invert
        self.normalise = False
        self._address = file.particles.address.numpy()
        self._stacks.check(self._address)
        self._background = _corner_mean(self.box)
        self._cache = None
        if cache_dir is not None:
            key = content_key(file.stacks, self._address, self.box)
            block = max(1, min(1024, 2**22 // full**2))  # 16 MiB of the images as extracted
            self._cache = CachedImages(
                cache_dir, key, len(self), self.box, self.pixel_size, self._make, block
            )

    def __len__(self) -> int:
        return len(self._address)

    def __getitem__(self, row: int | list[int]) -> Tensor:
        if isinstance(row, (int, np.integer)):
            return self.__getitems__([int(row)])[0]
        return self.__getitems__(row)

    def __getitems__(self, rows: list[int]) -> Tensor:
        """A batch (b, box, box) float32, in the order of ``rows``."""
        index = np.asarray(rows, dtype=np.int64)
        if self._cache is None:
            images = self._prepare(index)
        else:
            images = torch.from_numpy(self._cache.read(index))
        if self.normalise:
            images = images / self._sigma(images).clamp_min(1e-30)[:, None, None]
        return -images if self.invert else images

    def background_sigma(self, rows: list[int]) -> Tensor:
        """Standard deviation (b,) of the pixels beyond radius box / 2, as stored in the file."""
        before, self.normalise = self.normalise, False
        sigma = self._sigma(self[rows])
        self.normalise = before
        return sigma

    def _sigma(self, images: Tensor) -> Tensor:
        return (images.flatten(1).square() @ self._background).sqrt()

    def _prepare(self, index: np.ndarray) -> Tensor:
        raw = torch.from_numpy(self._stacks.read(self._address[index]))
        low, high = raw.flatten(1).aminmax(dim=1)
        blank = torch.nonzero(low == high)[:, 0]
        if len(blank):
            stack, image = self._address[index[blank[0]]]
            raise InputError(
                f"Image {image + 1} of {self._stacks.paths[stack]} is blank, all its pixels are {float(low[blank[0]]):.4g}: "
                "remove it from the STAR file."
            )
        images = resize_images(raw, self.box)
        mean = images.flatten(1) @ self._background
        return images.sub_(mean[:, None, None])

    def _make(self, start: int, stop: int) -> np.ndarray:
        return self._prepare(np.arange(start, stop)).numpy()


def _corner_mean(box: int) -> Tensor:
    """Weights (box * box,) that average the pixels beyond radius box / 2 of pixel box // 2."""
    x = torch.arange(box) - box // 2
    outside = (x[:, None] ** 2 + x[None, :] ** 2 > (box / 2) ** 2).flatten()
    return outside.float() / outside.sum()
