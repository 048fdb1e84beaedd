"""What an image shows beyond its particle: the level of its background, and pixels that no particle explains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

CORNER_PIXELS = 256  # of each corner that are looked at: they tell a standard deviation to 4 %
OUTLIER = 7.0  # background sigmas that noise does not reach, nor a pixel of a particle in noise,
BEYOND = 2.0  # and so many times what the brightest pixels of most images of the set reach: strong particles
MOST_IMAGES = 0.9  # are not outliers
SAME_LEVEL = 0.15  # scatter of ln(level) from which on the levels of a set differ in general
FAR_LEVEL = 5.0  # scatters, and
MIN_FAR = 0.4  # difference of ln(level), beyond which an image is not of the set's level;
MAX_FAR_SHARE = 0.05  # with more such images than this share, the levels differ in general
# Standard deviations of images that the arithmetic takes as they are.
USUAL_GREY = (1e-4, 1e5)


class Corners:
    """The pixels of square images beyond a circle, equally many of each corner, so that one bad corner does not set the level.

    Args:
        beyond: (d, d) bool, pixels beyond the particle.
    """

    def __init__(self, beyond: Tensor) -> None:
        box = beyond.shape[-1]
        low = torch.arange(box) < box // 2
        parts = []
        for rows in (low, ~low):
            for columns in (low, ~low):
                mine = beyond & rows[:, None] & columns[None, :]
                parts.append(torch.nonzero(mine.flatten())[:, 0])
        least = min(CORNER_PIXELS, *(len(part) for part in parts))
        parts = [part[torch.linspace(0, len(part) - 1, least).long()] for part in parts]
        self._index = torch.stack(parts) if least else torch.zeros(4, 0, dtype=torch.long)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (b,) of the background of images (b, d, d): the (lower) medians over the corners.

        Corners with pixels that are not finite do not count; NaN where all have some.
        """
        if self._index.shape[1] < 2:
            return torch.zeros(len(images)), torch.zeros(len(images))
        values = images.flatten(1).index_select(1, self._index.flatten())
        values = values.unflatten(1, self._index.shape)
        mean = values.mean(-1)
        # ten times as fast as torch.var_mean
        variance = (values - mean[..., None]).square().sum(-1) / (values.shape[-1] - 1)
        return mean.nanmedian(1).values, variance.nanmedian(1).values.sqrt()


def corners_of(box: int) -> Corners:
    """The corners beyond radius box / 2."""
    x = torch.arange(box) - box // 2
    return Corners(x[:, None] ** 2 + x[None, :] ** 2 > (box / 2) ** 2)


def extremes(low: Tensor, high: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """How far the darkest and the brightest pixel of images are from the background, (b, 2) in its sigmas; all arguments (b,)."""
    return torch.stack([mean - low, high - mean], 1) / sigma[:, None].clamp_min(1e-30)


def outlier_limits(reach: Tensor) -> Tensor:
    """Sigmas (2,), darker and brighter, beyond which a pixel is an outlier in a set with these ``extremes`` (n, 2).

    Infinite where the images have no noise to measure by.
    """
    if not len(reach):
        return torch.full((2,), torch.inf)
    usual = reach.quantile(MOST_IMAGES, dim=0)
    limits = (BEYOND * usual).clamp_min(OUTLIER)
    return torch.where(usual < 1e6, limits, torch.inf)


def outliers(image: Tensor, mean: Tensor, sigma: Tensor, limits: Tensor) -> Tensor:
    """Pixels (d, d) bool of one image (d, d) that are beyond the ``outlier_limits`` (2,), or not finite; mean and sigma scalars."""
    away = (image - mean) / sigma
    return (away > limits[1]) | (-away > limits[0]) | ~image.isfinite()


def mended(image: Tensor, bad: Tensor, mean: Tensor, sigma: Tensor, seed: int) -> Tensor:
    """An image (d, d) whose ``bad`` pixels, and those that touch them, are replaced by the mean around and noise of the background's sigma.

    ``bad`` (d, d) bool; mean and sigma of the background scalars. Where there are none around, as within a bead, the mean is that of the background.
    """
    bad = max_pool2d(bad[None, None].float(), 3, 1, 1)[0, 0] > 0
    good = (~bad).float()
    clean = torch.where(bad, mean, image)
    share, total = (avg_pool2d(v[None, None], 5, 1, 2)[0, 0] for v in (good, clean * good))
    around = torch.where(share > 0.1, total / share.clamp_min(0.1), mean)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(bad, around + sigma * noise, image)


@dataclass(frozen=True)
class Level:
    """The background's standard deviation in a set of images.

    Attributes:
        usual: of most of them; far: difference of ln(level) beyond which an image is far from it.
        differs: whether the levels differ in general; scatter: of ln(level).
    """

    usual: float
    far: float
    differs: bool
    scatter: float

    def is_far(self, sigma: Tensor) -> Tensor:
        """Which images (b,) bool have a level that the set's scatter does not explain; never those without noise."""
        if not self.usual > 0:
            return torch.zeros(len(sigma), dtype=torch.bool)
        return ((sigma / self.usual).clamp_min(1e-30).log().abs() > self.far) & (sigma > 0)


def level_of(sigma: Tensor) -> Level:
    """The level of a set from that of a sample (n,) of its images, whatever a few of them are like."""
    known = sigma[sigma > 0]
    if 2 * len(known) <= len(sigma):
        return Level(0.0, torch.inf, False, 0.0)
    usual = known.median()
    away = (known / usual).log().abs()
    scatter = float(1.4826 * away.median())  # the standard deviation of a Gaussian
    far = max(FAR_LEVEL * scatter, MIN_FAR)
    differs = scatter > SAME_LEVEL or float((away > far).float().mean()) > MAX_FAR_SHARE
    return Level(float(usual), far, differs, scatter)


def deviation_of(images: Tensor) -> Tensor:
    """Standard deviation (b,) float64 of the pixels of images (b, d, d) that are finite, 0 where fewer than two are."""
    flat = images.flatten(1).double()
    sound = flat.isfinite()
    count = sound.sum(1).clamp_min(1)
    flat = flat.where(sound, torch.zeros((), dtype=flat.dtype))
    mean = flat.sum(1) / count
    return ((flat - mean[:, None]).square() * sound).sum(1).div(count).sqrt()


def unit_of(deviation: Tensor) -> float:
    """The power of 2 that brings most images (n,), whose standard deviations these are, near 1; 1 where they are usual."""
    known = deviation[deviation > 0]
    if not len(known):
        return 1.0
    usual = float(known.median())
    return 1.0 if USUAL_GREY[0] <= usual <= USUAL_GREY[1] else 2.0 ** -round(math.log2(usual))
