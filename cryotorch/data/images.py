"""Particle images as a torch Dataset of batches: read, brought to one grid, background at zero."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cryotorch.data.background import (
    Corners,
    Level,
    corners_of,
    deviation_of,
    extremes,
    level_of,
    mended,
    outlier_limits,
    outliers,
    unit_of,
)
from cryotorch.data.cache import CachedImages, content_key
from cryotorch.data.cache_folder import CacheFolder
from cryotorch.data.image_marks import marks_of
from cryotorch.data.particle_file import ParticleFile
from cryotorch.data.stacks import Stacks
from cryotorch.errors import InputError
from cryotorch.ops.fourier.resample import resample_images
from cryotorch.ops.fourier.transforms import resize_images

logger = logging.getLogger(__name__)
SAME_PIXEL_SIZE = 1e-4  # pixel sizes that differ less, relatively, are one
SAMPLE_IMAGES = 200  # images, evenly spread over the set, that show what its images are like
UNEVEN_BACKGROUND = 1.5  # times as high as in most corners: a background that is not of one level
MAX_PIXEL_GREY = 1e12  # beyond it bits were flipped, as in a pixel that is not finite
BLANK = -1  # note on an image that is blank; others are the number of pixels replaced


class ParticleImages(Dataset):
    """The images of a particle file at a box, protein bright if it was bright in the file or ``invert`` is set.

    ``images[rows]`` with a list of rows is a batch (b, box, box) float32, and so is what a ``DataLoader`` with
    ``collate_fn=lambda batch: batch`` gets: whole batches are read at once. Rows in file order are fastest.
    The mean of the pixels beyond radius box / 2 (the corners, free of particle) is subtracted from each image.
    Images of another box or pixel size than the file's are interpolated to its grid; where they end, zeros follow.
    Grey values far from 1 are multiplied by one power of 2 for the whole set, see ``unit``.
    Pixels that neither noise nor a particle of this set explains are replaced, and a blank image is all zeros, see ``faults``.

    Args:
        file: from ``read_particles``; its ``sign`` is applied.
        box: even, at most the box of the file, which is the default; images are cropped in Fourier space.
        cache_dir: folder on a fast disk for prepared images; None reads the stacks every time.
        invert: change the sign: for stacks with dark protein.
        cache_dtype: "float16" or "float32", of the prepared images on the disk.
        cache_limit: GB that all caches in the folder may take together; None = what the disk has.

    Attributes:
        box: pixels per edge of the batches.
        pixel_size: Å, at that box.
        normalize: divide each image by the standard deviation of its background; may be set later.
        level: of the set's background: an image far from it is brought to it; None = images stay as they are. See ``judge_level``.
        faults: row -> what was wrong with an image, of those that have been read.
        unit: what grey values are multiplied by, 1 for most sets; None before the first image is read from its stack.
        marks: (n,) uint64, of the pixels of images that have been read, the same for the same image; 0 = not read yet, or blank.

    Raises:
        InputError: the box does not fit, or a stack or the cache cannot be used; most images are blank.
    """

    def __init__(
        self,
        file: ParticleFile,
        box: int | None = None,
        cache_dir: str | Path | None = None,
        invert: bool = False,
        cache_dtype: str = "float32",
        cache_limit: float | None = None,
    ):
        self._stacks = Stacks(file.stacks)
        full = file.box
        self.box = full if box is None else int(box)
        if self.box % 2 or not 2 <= self.box <= full:
            raise InputError(
                f"box_size must be even and at most {full}, got {self.box}: choose a smaller box."
            )
        self.pixel_size = file.pixel_size * full / self.box
        self.invert = invert
        self.normalize, self.level = False, None
        self._mended: dict[int, str] = {}
        self._brought: dict[int, str] = {}
        self._limits: Tensor | None = None
        self.unit = 1.0
        self._corners: dict[int, Corners] = {}
        self.marks = np.zeros(len(file.particles), np.uint64)
        self._address = file.particles.address.numpy()
        self._stacks.check(self._address)
        self._sign = None if file.sign is None else torch.from_numpy(file.sign)
        self._grids, self._grid = self._find_grids(file)
        self._cache = None
        if cache_dir is not None:
            sizes = np.array([grid.pixel_size for grid in self._grids])[self._grid]
            relative = sizes / file.pixel_size
            key = content_key(file.stacks, self._address, self.box, relative, cache_dtype)
            folder = CacheFolder(Path(cache_dir), cache_limit and cache_limit * 1e9)
            shape = (len(self), self.box, self.pixel_size)
            block = max(1, min(1024, 2**22 // full**2))  # 16 MiB of the images as extracted
            self._cache = CachedImages(folder, key, *shape, self._make, cache_dtype, block)
            self._stacks.close()

    def close(self) -> None:
        """Let go of all files; reading opens them again."""
        self._stacks.close()
        if self._cache is not None:
            self._cache.close()

    def __len__(self) -> int:
        return len(self._address)

    def __getitem__(self, row: int | list[int]) -> Tensor:
        if isinstance(row, (int, np.integer)):
            return self.__getitems__([int(row)])[0]
        return self.__getitems__(row)

    def __getitems__(self, rows: list[int]) -> Tensor:
        """A batch (b, box, box) float32, in the order of ``rows``."""
        index = np.asarray(rows, dtype=np.int64)
        images = self._read(index)
        if self.normalize or self.level is not None:
            images = images / self._loudness(images, index)[:, None, None]
        if self._sign is not None:
            images = images * self._sign[index][:, None, None]
        return -images if self.invert else images

    def grey(self, rows: list[int]) -> Tensor:
        """(b,) what grey values, as they are stored, are multiplied by in the batch of these rows: unit, level and sign."""
        index = np.asarray(rows, dtype=np.int64)
        images, factor = self._read(index), torch.full((len(index),), self.unit)
        if self.normalize or self.level is not None:
            factor = factor / self._loudness(images, index)
        if self._sign is not None:
            factor = factor * self._sign[index]
        return -factor if self.invert else factor

    def as_stored(self, rows: np.ndarray) -> Tensor:
        """Images (b, d, d) of rows (b,) of one box as their stacks have them, but for pixels that are not finite, which are replaced."""
        images = torch.from_numpy(self._stacks.read(self._address[rows]))
        lost = ~images.isfinite()
        if lost.any():
            if self._limits is None:  # all that was read so far came from a cache
                self._limits = self._find_limits()
            images = torch.where(lost, self._clean(rows)[0] / self.unit, images)
        return images

    @property
    def stacks(self) -> list[Path]:
        """The files that images are still read from: none once they lie in a cache."""
        return self._stacks.paths if self._cache is None else []

    def digest(self, rows: np.ndarray) -> str:
        """A name for the pixels of ``rows`` (b,) as stored, and for the shapes of all stacks."""
        return self._stacks.digest(self._address[rows])

    def name(self, row: int) -> str:
        """The image as STAR files write it: 12@stack.mrcs."""
        stack, image = self._address[row]
        return f"{image + 1}@{self._stacks.paths[stack]}"

    @property
    def faults(self) -> dict[int, str]:
        """Row -> what was wrong with an image, of those that have been read."""
        rows = sorted(self._mended.keys() | self._brought.keys())
        both = (self._mended, self._brought)
        return {row: "; ".join(d[row] for d in both if row in d) for row in rows}

    def judge_level(self) -> Level:
        """Find ``level``, the background's level in the set."""
        index = np.array(self._sample())
        self.level = level_of(self._corner_sigma(self._read(index), index))
        return self.level

    def background_sigma(self, rows: list[int]) -> Tensor:
        """Standard deviation (b,) of the pixels beyond radius box / 2, as stored in the file but without outliers."""
        index = np.asarray(rows, dtype=np.int64)
        return self._sigma(self._read(index), index)

    def _sample(self) -> list[int]:
        return np.linspace(0, len(self) - 1, min(len(self), SAMPLE_IMAGES)).astype(int).tolist()

    def _read(self, index: np.ndarray) -> Tensor:
        if self._cache is None:
            images, notes = self._prepare(index)
        else:
            images = self._cache.read(index)
            notes = self._cache.notes[index]
        for i in np.flatnonzero(notes):
            number, row = int(notes[i]), int(index[i])
            plural = "s" if number > 1 else ""
            told = "blank" if number == BLANK else f"{number} outlier pixel{plural} replaced"
            self._mended[row] = told
        new = np.flatnonzero((self.marks[index] == 0) & (notes != BLANK))
        if len(new):
            self.marks[index[new]] = marks_of(images[new].numpy())
        return images

    def _loudness(self, images: Tensor, index: np.ndarray) -> Tensor:
        """What images are divided by to have the level asked for (b,); those that are far from the set's are noted."""
        times = torch.ones(len(images))
        if self.level is not None:
            sigma = self._corner_sigma(images, index)
            far = self.level.is_far(sigma)
            times = torch.where(far, sigma / self.level.usual, 1.0)
            for i in torch.nonzero(far)[:, 0].tolist():
                told = f"background {float(times[i]):.3g} times as loud as usual"
                self._brought[int(index[i])] = told
        return self._sigma(images, index).clamp_min(1e-30) if self.normalize else times

    def _sigma(self, images: Tensor, index: np.ndarray) -> Tensor:
        """Of all corners, or of most where one or two differ from the others, as at the edge of a carbon film."""
        variance = torch.empty(len(images))
        for grid, rows in self._by_grid(index):
            variance[rows] = images[rows].flatten(1).square() @ grid.background
        sigma, corners = variance.sqrt(), self._corner_sigma(images, index)
        return torch.where((sigma > UNEVEN_BACKGROUND * corners) & (corners > 0), corners, sigma)

    def _corner_sigma(self, images: Tensor, index: np.ndarray) -> Tensor:
        sigma = torch.empty(len(images))
        for grid, rows in self._by_grid(index):
            sigma[rows] = grid.corners(images[rows])[1]
        return sigma

    def _by_grid(self, index: np.ndarray) -> list[tuple[_Grid, slice | np.ndarray]]:
        """The grids among some rows, and which of these rows have each."""
        if len(self._grids) == 1:
            return [(self._grids[0], slice(None))]
        found = self._grid[index]
        return [(self._grids[g], np.flatnonzero(found == g)) for g in np.unique(found)]

    def _prepare(self, index: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Images on the common grid, and a note (b,) int32 on each."""
        if self._limits is None:
            self._limits = self._find_limits()
        images, notes = torch.empty(len(index), self.box, self.box), np.zeros(len(index), np.int32)
        for grid, rows in self._by_grid(index):
            raw, notes[rows] = self._clean(index[rows])
            images[rows] = grid.bring(raw)
        return images, notes

    def _clean(self, index: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Images as extracted without their outliers, and a note on each."""
        raw, mean, sigma, reach = self._raw(index)
        assert self._limits is not None
        notes = np.zeros(len(index), np.int32)
        # not a number is not below a limit
        for i in torch.nonzero(~(reach <= self._limits).all(1) | (sigma == 0))[:, 0].tolist():
            if (raw[i] == raw[i, 0, 0]).all():
                raw[i], notes[i] = 0, BLANK
            elif sigma[i] > 0:
                bad = outliers(raw[i], mean[i], sigma[i], self._limits)
                stack, image = self._address[index[i]].tolist()
                raw[i] = mended(raw[i], bad, mean[i], sigma[i], seed=stack + 1_000_003 * image)
                notes[i] = int(bad.sum())
        return raw, notes

    def _raw(self, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images as extracted, mean and sigma (b,) of their backgrounds, and their extremes (b, 2)."""
        raw = torch.from_numpy(self._stacks.read(self._address[index]))
        return self._measured(raw, index)

    def _measured(self, raw: Tensor, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``_raw`` of images as the stacks have them."""
        if self.unit != 1:
            raw = (raw.double() * self.unit).float()  # 2^127 is the most that float32 has
        box = raw.shape[-1]
        if box not in self._corners:
            self._corners[box] = corners_of(box)
        flat = raw.flatten(1)
        low, high = flat.amin(1), flat.amax(1)  # 30 times faster than aminmax
        for i in torch.nonzero((high > MAX_PIXEL_GREY) | (low < -MAX_PIXEL_GREY))[:, 0].tolist():
            self._drop_huge(raw[i], int(index[i]))
            low[i] = high[i] = torch.nan
        mean, sigma = self._corners[box](raw)
        for i in torch.nonzero(sigma.isnan())[:, 0].tolist():  # rare: such pixels in every corner
            sigma[i], mean[i] = torch.std_mean(raw[i][raw[i].isfinite()])
        return raw, mean, sigma, extremes(low, high, mean, sigma)

    def _find_limits(self) -> Tensor:
        """What pixels of this set do not exceed, from a sample of it.

        Raises:
            InputError: most images are blank.
        """
        index = np.array(self._sample())
        reach, blank = [], []
        stored = [
            (rows, torch.from_numpy(self._stacks.read(self._address[index[rows]])))
            for _, rows in self._by_grid(index)
        ]
        self.unit = unit_of(torch.cat([deviation_of(raw) for _, raw in stored]))
        if self.unit != 1:
            logger.info(
                "The grey values of the images are far from 1 and are multiplied by %.3g.",
                self.unit,
            )
        for rows, raw in stored:
            raw, _, _, some = self._measured(raw, index[rows])
            same = (raw == raw[:, :1, :1]).all(-1).all(-1)
            reach.append(some[~same & some.isfinite().all(1)])
            blank += index[rows][same.numpy()].tolist()
        if 2 * len(blank) > len(index):
            stack, image = self._address[min(blank)]
            raise InputError(
                f"Image {image + 1} of {self._stacks.paths[stack]} is blank, and so are most of those looked at: give particles "
                "with something in them."
            )
        return outlier_limits(torch.cat(reach))

    def _drop_huge(self, image: Tensor, row: int) -> None:
        """Pixels that no detector wrote become not a number, and are mended like those.

        Raises:
            InputError: they are more than half of the image.
        """
        huge = ~(image.abs() <= MAX_PIXEL_GREY)
        if 2 * int(huge.sum()) > huge.numel():
            stack, number = self._address[row]
            raise InputError(
                f"Image {number + 1} of {self._stacks.paths[stack]} has grey values of {float(image.abs().nan_to_num(0).max()):.2g} where those of the set are about 1: "
                "remove it from the STAR file."
            )
        image[huge] = torch.nan

    def _make(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        images, notes = self._prepare(np.arange(start, stop))
        return images.numpy(), notes

    def _find_grids(self, file: ParticleFile) -> tuple[list[_Grid], np.ndarray]:
        """The grids that images come on, and which one (n,) each image has."""
        sizes = file.particles.optics.pixel_size.double().numpy().round(6)
        sizes[np.abs(sizes / file.pixel_size - 1) < SAME_PIXEL_SIZE] = file.pixel_size
        sizes, of_group = np.unique(sizes, return_inverse=True)
        boxes = self._stacks.boxes[self._address[:, 0]]
        code = boxes * len(sizes) + of_group[file.particles.optics_group.numpy()]
        codes, grid = np.unique(code, return_inverse=True)
        pairs = zip(*np.divmod(codes, len(sizes)), strict=True)
        return [
            _Grid(int(box), float(sizes[i]), self.box, self.pixel_size) for box, i in pairs
        ], grid


class _Grid:
    """A grid that images come on, and the way to the common one.

    Attributes:
        pixel_size: Å, as it comes.
        background: weights (box * box,) on the common grid that average the pixels beyond half the edge of the smaller box.
        corners: the same pixels, corner by corner.
    """

    def __init__(self, old_box: int, old_pixel_size: float, box: int, pixel_size: float):
        self.box, self.pixel_size = old_box, old_pixel_size
        self._to = box, pixel_size
        edge = old_box * old_pixel_size
        self._same_edge = abs(edge / (box * pixel_size) - 1) < SAME_PIXEL_SIZE
        # 1 where the common box holds image, 0 in the padding
        self._field = (self._resample(torch.ones(1, old_box, old_box))[0] != 0).float()
        x = torch.arange(box) - box // 2
        radius = min(box, edge / pixel_size) / 2
        beyond = (x[:, None] ** 2 + x[None, :] ** 2 > radius**2) * self._field
        self.background = (beyond / beyond.sum()).flatten()
        self._beyond = torch.nonzero(self.background)[:, 0]
        self.corners = Corners(beyond > 0)

    def bring(self, images: Tensor) -> Tensor:
        """Images (b, old box, old box) on the common grid (b, box, box), mean of the background 0.

        An image comes out the same to the last bit, whatever others come with it: so a cache holds what the stacks give.
        """
        if len(images) == 1:  # transforms of one image alone round otherwise than those of several
            return self.bring(images.expand(2, -1, -1))[:1]
        images = self._resample(images)
        # matrix products round by the number of rows
        mean = images.flatten(1).index_select(1, self._beyond).double().mean(1).float()
        return images.sub_(mean[:, None, None] * self._field)

    def _resample(self, images: Tensor) -> Tensor:
        box, pixel_size = self._to
        if self._same_edge:
            return resize_images(images, box)
        # a projection sums over the pixels along the beam, so its values go as 1 / pixel size
        scale = self.pixel_size / pixel_size
        return resample_images(images, self.pixel_size, box, pixel_size) * scale
