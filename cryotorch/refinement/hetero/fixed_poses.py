"""Images at poses that stay as they are: what each needs to be compared with any map, and to be inserted.

With p the slice of a map at an image's pose, and y, c and w the image moved to the middle, its gain and its precision,

    w |y - c p|^2 = w |y|^2 - 2 Re(p* c w y) + c^2 w |p|^2

so that three numbers of each coefficient are all that is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Projector, extract_slices
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.refinement.hetero.class_sums import Inserted, insert_classes_
from cryotorch.refinement.spectra import Spectra

AT_ONCE = 256  # images
MOST_OF_ITSELF = 0.9  # what an image may be taken to find of itself in a map


@dataclass(frozen=True)
class PosedImages:
    """n images up to a limit, m coefficients.

    Attributes:
        numerator: (n, m) complex64 c w y; weight: (n, m) c^2 w; power: (n, m) w |y|^2.
        rotation: (n, 3, 3); half: (n,) half set; group: (n,) optics group.
        box: d.
    """

    numerator: Tensor
    weight: Tensor
    power: Tensor
    rotation: Tensor
    half: Tensor
    group: Tensor
    box: int

    def __len__(self) -> int:
        return len(self.half)

    def of(self, rows: Tensor | slice) -> PosedImages:
        """Some of the images, by their ``rows`` (r,)."""
        values = {n: v[rows] for n, v in vars(self).items() if isinstance(v, Tensor)}
        return PosedImages(**values, box=self.box)

    def limited(self, limit: float, box: int) -> PosedImages:
        """The same up to a lower limit, Fourier pixels, for maps of a smaller box of the same edge."""
        m = half_plane(self.box).count(limit)
        values = {n: v for n, v in vars(self).items() if isinstance(v, Tensor)}
        values |= {n: values[n][:, :m] for n in ("numerator", "weight", "power")}
        return PosedImages(**values, box=box)

    def with_noise(self, factor: Tensor) -> PosedImages:
        """The same with the noise multiplied by a factor (groups, s)."""
        shell = half_plane(self.box, factor.device).shell[: self.weight.shape[1]]
        less = (1 / factor)[self.group][:, shell]
        values = {n: v for n, v in vars(self).items() if isinstance(v, Tensor)}
        values |= {n: values[n] * less for n in ("numerator", "weight", "power")}
        return PosedImages(**values, box=self.box)


def pose_images(
    spectra: Spectra,
    rows: Tensor,
    limit: float,
    tell: Callable[[int], object] = lambda images: None,
) -> PosedImages:
    """The particles ``rows`` (n,) of ``spectra`` at the poses they have, up to a limit in Fourier pixels."""
    particles, box, device = spectra.particles, spectra.grid.box, spectra.device
    count = half_plane(box).count(limit)
    n = len(rows)
    numerator = torch.empty(n, count, dtype=torch.complex64, device=device)
    weight, power = (torch.empty(n, count, device=device) for _ in range(2))
    shift = spectra.in_specimen(particles.shift / spectra.grid.pixel_size)
    for at in torch.arange(n).split(AT_ONCE):
        some = rows[at]
        seen = spectra.once(some).limited(count)
        y = seen.spectrum * shift_phase(-shift[some].to(device), box, count)
        weighed = seen.gain * seen.precision
        numerator[at], weight[at] = y * weighed, weighed * seen.gain
        power[at] = seen.precision * (y.real**2 + y.imag**2)
        tell(len(at))
    of_rows = (particles.rotation, particles.half, particles.optics_group)
    rotation, half, group = (values[rows].to(device) for values in of_rows)
    return PosedImages(numerator, weight, power, rotation, half, group, box)


def compare(
    images: PosedImages,
    projectors: list[list[Projector]],
    shares: Tensor | None = None,
    influence: Tensor | None = None,
) -> Tensor:
    """Logarithms of the likelihood (b, k) of images against the maps of their half set, but for what all classes have in common.

    An image finds in its reference a part h of its own noise; what it would be like without is the residual over 1 - h.

    Args:
        projectors: of each half set and class, or one list for all images.
        shares: (b, k) with which the images are in the maps; influence: (2, k, s) of ``References``.
    """
    out = images.weight.new_empty(len(images), len(projectors[0]))
    for k, rows, residual in _residuals(images, projectors):
        if shares is not None and influence is not None:
            residual = residual / (1 - _own_part(images, rows, shares, influence, k)).square()
        out[rows, k] = -residual.sum(1)
    return out


def residual_of_best(
    images: PosedImages,
    projectors: list[list[Projector]],
    best: Tensor,
    shares: Tensor,
    influence: Tensor,
) -> Tensor:
    """Residual power over assumed (b, m) of images against their most probable class ``best`` (b,), without their own part in it."""
    out = torch.empty_like(images.power)
    for k, rows, residual in _residuals(images, projectors, best):
        part = 1 - _own_part(images, rows, shares, influence, k)
        out[rows] = residual / part
    return out


def scale_free(images: PosedImages, projectors: list[Projector]) -> Tensor:
    """The same as ``compare``, (b, k), each at the scale, zero or more, that suits image and map best: max(X, 0)^2 / Q."""
    out = images.weight.new_empty(len(images), len(projectors))
    for k, projector in enumerate(projectors):
        p = _slices(images, projector)
        cross = _cross(p, images.numerator).sum(1).clamp_min(0)
        own = (images.weight * (p.real**2 + p.imag**2)).sum(1).clamp_min(1e-30)
        out[:, k] = cross.square() / own
    return out


def insert(images: PosedImages, share: Tensor, inserted: Inserted) -> None:
    """Add images with shares (b, k) to the sums."""
    values = images.numerator, images.weight, images.rotation
    insert_classes_(inserted, *values, share, images.half)


def _residuals(images: PosedImages, projectors: list[list[Projector]], best: Tensor | None = None):
    """Class, rows (r,) and w |y - c p|^2 (r, m) of every class and half set; of the class ``best`` (b,) of an image only, where it is given."""
    for h, classes in enumerate(projectors):
        mine = torch.ones_like(images.half, dtype=torch.bool)
        if len(projectors) > 1:
            mine = images.half == h
        for k, projector in enumerate(classes):
            rows = torch.nonzero(mine if best is None else mine & (best == k))[:, 0]
            if len(rows):
                some = images.of(rows)
                p = _slices(some, projector)
                cross = _cross(p, some.numerator)
                yield k, rows, some.power - 2 * cross + some.weight * (p.real**2 + p.imag**2)


def _cross(p: Tensor, numerator: Tensor) -> Tensor:
    """Re(p* c w y)."""
    return p.real * numerator.real + p.imag * numerator.imag


def _slices(images: PosedImages, projector: Projector) -> Tensor:
    frequency = half_plane(images.box, images.rotation.device).frequency
    return extract_slices(projector, images.rotation, frequency[: images.weight.shape[1]])


def _own_part(
    images: PosedImages, rows: Tensor, shares: Tensor, influence: Tensor, k: int
) -> Tensor:
    """What images ``rows`` (r,) find of themselves in each coefficient of class k, (r, m)."""
    shell = half_plane(images.box, influence.device).shell[: images.weight.shape[1]]
    table = influence[:, k][images.half[rows]][:, shell]
    part = images.weight[rows] * table * shares[rows, k, None]
    return part.clamp_max(MOST_OF_ITSELF)
