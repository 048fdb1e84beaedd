"""No image weighs more than its share: those louder than the noise of their set count for less, band by band of shells.

With r the residual power of an image in a band over what the noise estimate expects, and R the most that the set's own scatter
explains, the image's precision is multiplied by min(1, R / r). Within the scatter nothing changes; beyond, an image adds to
the sums of a map no more than the loudest ones that are sound, and to the noise estimate, by the square of the factor, next to nothing.
An image that is blank has factor 0.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.scores import Observation, sum_power

UPPER_QUANTILE = 0.84  # that is one standard deviation above the median of a Gaussian
MAX_DEVIATIONS = 6.0  # such, above the median, is what the scatter of a set explains,
MIN_TIMES_MEDIAN = 2.0  # or so many times the median
DAMAGED_FACTOR = 0.25  # factor below which an image is said to look damaged


@lru_cache(maxsize=16)
def band_edges(box: int) -> tuple[int, ...]:
    """First shells of the bands 1-2, 3-4, 5-8, 9-16, ..., and one past the last shell that has coefficients."""
    end = int(half_plane(box).shell[-1]) + 1
    edges = [1, 3]
    while 2 * (edges[-1] - 1) + 1 < end:
        edges.append(2 * (edges[-1] - 1) + 1)
    return (*(edge for edge in edges if edge < end), end)


@lru_cache(maxsize=16)
def _places(box: int) -> tuple[int, ...]:
    """Where the bands begin among the coefficients, which come in the order of their radius; and their number."""
    return tuple(torch.searchsorted(half_plane(box).shell, torch.tensor(band_edges(box))).tolist())


@lru_cache(maxsize=16)
def _bands(box: int, device: str) -> tuple[Tensor, Tensor]:
    """Bands of shells and of coefficients, which are no copies for every batch."""
    edges = torch.tensor(band_edges(box)[1:-1])
    of_shells = torch.searchsorted(edges, torch.arange(box // 2 + 1), right=True)
    return of_shells.to(device), of_shells[half_plane(box).shell].to(device)


def bands_of_shells(box: int, device: torch.device | str = "cpu") -> Tensor:
    """Band (s,) int64 of every shell; shell 0, which has no coefficients, is in the first."""
    return _bands(box, str(device))[0]


def unlimited(box: int) -> Tensor:
    """R (n,) with which all images count alike."""
    return torch.full((len(band_edges(box)) - 1,), torch.inf)


@lru_cache(maxsize=16)
def _widths(box: int, device: str) -> Tensor:
    """Coefficients of each band, which are no copies for every batch."""
    return torch.tensor(_places(box)).diff().to(device)


def band_power(power: Tensor, box: int) -> Tensor:
    """Mean (b, n) over each band of the first coefficients (b, m) of images; bands beyond them are left out."""
    places = [place for place in _places(box) if place < power.shape[1]] + [power.shape[1]]
    return torch.stack([power[:, i:j].mean(1) for i, j in pairwise(places)], 1)


def over_all(ratio: Tensor, box: int) -> Tensor:
    """Mean (b,) over all coefficients of ratios (b, n) of bands."""
    size = _widths(box, str(ratio.device)).to(ratio)
    return ratio @ (size / size.sum())


def of_coefficients(factor: Tensor, box: int, count: int) -> Tensor:
    """Values (b, n) of bands at the first ``count`` coefficients, (b, count)."""
    return factor[:, _bands(box, str(factor.device))[1][:count]]


def max_ratio_of(ratio: Tensor) -> Tensor:
    """R (n,): what the scatter of ratios (images, n) explains, whatever a few of the images are like."""
    at = torch.tensor([0.5, UPPER_QUANTILE]).to(ratio)
    middle, upper = torch.stack([r.quantile(at) for r in ratio.unbind(1)], 1)  # it takes no more
    return torch.maximum(
        middle + MAX_DEVIATIONS * (upper - middle), MIN_TIMES_MEDIAN * middle
    ).clamp_min(1e-30)


def coming_max_ratio(ratio: Tensor) -> Tensor:
    """R (n,) for the noise estimate that is made of images with these ratios (images, n), with which their mean is 1."""
    mean = torch.minimum(ratio, max_ratio_of(ratio)).mean(0)
    return max_ratio_of(ratio / mean.clamp_min(1e-30))


def factors(ratio: Tensor, max_ratio: Tensor, blank: Tensor) -> Tensor:
    """min(1, R / r) of images, (b, n) with R (n,) and r (b, n), 0 for those that are ``blank`` (b,) bool."""
    factor = (max_ratio / ratio.clamp_min(1e-30)).clamp(max=1)
    return factor.masked_fill(blank[:, None], 0.0)


def is_blank(spectrum: Tensor) -> Tensor:
    """Images (b,) whose spectra (b, m) are all zero; noise in any image makes its first coefficients differ from zero."""
    return (spectrum[:, :8] == 0).all(1)


def loudness(residual: Tensor, images: Observation) -> tuple[Tensor, Tensor]:
    """Residual power (b, m) over the noise estimate as the ratios (b, n) of bands, and which images are blank (b,)."""
    return band_power(residual * images.precision, images.box), is_blank(images.spectrum)


def misfit(ratio: Tensor, prediction: Tensor, images: Observation) -> Tensor:
    """Mean (b,) of the residual's ratios (b, bands) weighed as the power of the prediction (b, m) over that of noise; 0 where there is none."""
    power = (prediction.real**2 + prediction.imag**2) * images.precision
    weight = band_power(power, images.box)
    weight = weight * _widths(images.box, str(weight.device))
    return (weight * ratio).sum(1) / weight.sum(1).clamp_min(1e-30)


def noise_sums(
    residual: Tensor, factor: Tensor, group: Tensor, groups: int, box: int
) -> tuple[Tensor, Tensor]:
    """Residual power (b, m) times what images (b, n), of a ``group`` (b,) each, count in a noise estimate, and the sums of that: (groups, s) float64."""
    counts = factor**2
    shell, shells = half_plane(box, residual.device).shell, box // 2 + 1
    power = residual * of_coefficients(counts, box, residual.shape[1])
    power = sum_power(power, shell, shells, group, groups)
    counts = counts[:, bands_of_shells(box, counts.device)].to(power)
    return power, torch.zeros_like(power).index_add_(0, group, counts)


def weighed(images: Observation, factor: Tensor) -> Observation:
    """Images with the factors (b, n) of their bands on the precision."""
    count = images.spectrum.shape[1]
    return replace(images, precision=images.precision * of_coefficients(factor, images.box, count))


def robust_mean(
    power: Tensor, group: Tensor, groups: int, box: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of power spectra (images, s) over each group (images,) int64, those far out left out by the square of their factors.

    Returns (groups, s), zero for a group without images; the R (n,) that go with it; and the smallest factor (images,) over the bands.
    """
    band, size = bands_of_shells(box), torch.bincount(half_plane(box).shell, minlength=box // 2 + 1)
    blank = power.sum(1) == 0

    def ratios(level: Tensor) -> Tensor:
        relative = power / level[group].clamp_min(1e-300) * size
        by_band = power.new_zeros(len(power), int(band[-1]) + 1).index_add_(1, band, relative)
        return by_band / torch.bincount(band, size.double())

    usual = torch.zeros(groups, power.shape[1], dtype=power.dtype)
    for g in group.unique().tolist():
        mine = power[(group == g) & ~blank]
        usual[g] = mine.median(0).values if len(mine) else 0.0
    ratio = ratios(usual)
    factor = factors(ratio, max_ratio_of(ratio), blank)
    share = (factor**2)[:, band]
    total, weight = torch.zeros(2, groups, power.shape[1], dtype=power.dtype)
    total.index_add_(0, group, share * power)
    weight.index_add_(0, group, share)
    mean = total / weight.clamp_min(1e-30)
    return mean, max_ratio_of(ratios(mean)).float(), factor.amin(1)


def faults(
    ratio: Tensor, max_ratio: Tensor, blank: Tensor, box: int, pixel_size: float
) -> dict[int, str]:
    """Row -> what is wrong with images that hardly count; ``ratio`` (n, bands), ``most`` (bands,), ``blank`` (n,)."""
    factor = factors(ratio, max_ratio, blank)
    edge, shells = box * pixel_size, band_edges(box)
    reasons = {row: "blank" for row in torch.nonzero(blank)[:, 0].tolist()}
    for row in torch.nonzero((factor.amin(1) < DAMAGED_FACTOR) & ~blank)[:, 0].tolist():
        worst = int(factor[row].argmin())
        usual = float(ratio[ratio[:, worst] > 0, worst].median())
        reasons[row] = (
            f"residual of {float(ratio[row, worst]) / max(usual, 1e-30):.3g} times the usual power at "
            f"{edge / shells[worst]:.3g}-{edge / (shells[worst + 1] - 1):.3g} Å"
        )
    return dict(sorted(reasons.items()))


class Watch:
    """Weighs images of known poses, where all their power stands for the residual, and remembers what it saw.

    Args:
        max_ratio: (bands,) of the noise estimate that an image may have; n: number of particles.
    """

    def __init__(self, max_ratio: Tensor, n: int) -> None:
        self.max_ratio = max_ratio.cpu()
        self.ratio, self.blank = torch.zeros(n, len(max_ratio)), torch.zeros(n, dtype=torch.bool)

    def weigh(self, images: Observation, rows: Tensor) -> Observation:
        """Images of some ``rows`` (b,), those that are louder than their share counting for less."""
        ratio, blank = loudness(images.spectrum.real**2 + images.spectrum.imag**2, images)
        self.ratio[rows], self.blank[rows] = ratio.cpu(), blank.cpu()
        return weighed(images, factors(ratio, self.max_ratio.to(ratio), blank))

    def faults(self, box: int, pixel_size: float) -> dict[int, str]:
        """Row -> what is wrong with images that hardly count."""
        return faults(self.ratio, self.max_ratio, self.blank, box, pixel_size)
