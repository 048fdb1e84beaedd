"""How well poses explain images: all poses of a grid at once, or one pose with its derivatives.

The score of a pose is sum_k w (Re(conj(y) f) - |f|^2 / 2), f = scale c exp(2 pi i k.s / d) p(R): larger is better. The
terms of |y - f|^2 that do not depend on the pose are left out. The true log-likelihood is twice the score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier import slices_cpu
from cryotorch.ops.fourier.slices import Projector, of_each, rows_at_once, slices_with_gradient
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.pose.scores_cuda import compiled_products, square


@dataclass(frozen=True)
class Observation:
    """Images of one batch as the searches see them, limited to their first m coefficients.

    Attributes:
        spectrum: (b, m) complex64, y.
        gain: (b, m) float32, scale times CTF.
        precision: (b, m) float32, w = 1 / sigma2.
        box: d.
        magnification: (b, 2, 2) from frequencies of the image to those of the reference, or None. The coarse search, which
            has the same templates for all images, leaves it out.
    """

    spectrum: Tensor
    gain: Tensor
    precision: Tensor
    box: int
    magnification: Tensor | None = None

    def limited(self, count: int) -> Observation:
        """The same images up to a lower limit."""
        return Observation(
            self.spectrum[:, :count],
            self.gain[:, :count],
            self.precision[:, :count],
            self.box,
            self.magnification,
        )

    def of(self, rows: Tensor | slice) -> Observation:
        """Some of the images, by their ``rows`` (r,)."""
        m = self.magnification
        return Observation(
            self.spectrum[rows],
            self.gain[rows],
            self.precision[rows],
            self.box,
            None if m is None else m[rows],
        )


@dataclass(frozen=True)
class Templates:
    """Slices of a reference on a rotation grid, as the factors of the coarse search's matrix products.

    A slice turned by half a turn about the beam is its own complex conjugate, so that every slice stands for two rotations: products
    with its real and its imaginary part are made once and added for the one, subtracted for the other.

    Attributes:
        rotation: (2 r, 3, 3), the r of the slices and then the same turned; real, imaginary: (m, r); norm: (m, r), |p|^2.
    """

    rotation: Tensor
    real: Tensor
    imaginary: Tensor
    norm: Tensor


def templates(slices: Tensor, rotation: Tensor, dtype: torch.dtype = torch.float32) -> Templates:
    """Lay out slices (r, m) at rotations (r, 3, 3) for ``grid_scores``. ``dtype`` is the matrix products' input precision."""
    both = torch.cat([rotation, rotation])
    both[len(rotation) :, :2].neg_()
    norm = slices.real**2 + slices.imag**2
    parts = (slices.real, slices.imag, norm)
    # real parts of complex numbers lie apart: products would copy them each time
    return Templates(both, *(part.to(dtype).contiguous().T for part in parts))


def grid_scores(seen: Observation, shift_px: Tensor, grid: Templates, block: int = 4096) -> Tensor:
    """Best score over the shifts for every image and grid rotation, (b, 2 r) float32.

    shift_px (b, t, 2): the shifts tried for each image. Matrix products: twice [b t, m] x [m, r] for the cross terms, and
    [b, m] x [m, r] for the norm.
    """
    b, t, _ = shift_px.shape
    power = (-0.5 * seen.gain**2 * seen.precision).to(grid.norm.dtype)
    scores = torch.empty(b, len(grid.rotation), device=power.device)
    for up, down, upright, turned in _cross_terms(seen, shift_px, grid, block):
        norm = power @ grid.norm[:, up]
        torch.add(upright.view(b, t, -1).amax(1), norm, out=scores[:, up])
        torch.add(turned.view(b, t, -1).amax(1), norm, out=scores[:, down])
    return scores


def grid_correlations(
    seen: Observation, shift_px: Tensor, grid: Templates, block: int = 4096
) -> tuple[Tensor, Tensor]:
    """Normalised correlation cross / sqrt(power), blind to the reference's scale, best over the shifts.

    Returns (b, 2 r) for the reference and (b, 2 r) for the inverted one.
    """
    b, t, _ = shift_px.shape
    power = (seen.gain**2 * seen.precision).to(grid.norm.dtype)
    right, inverted = torch.empty(2, b, len(grid.rotation), device=power.device)
    for *places, upright, turned in _cross_terms(seen, shift_px, grid, block):
        length = (power @ grid.norm[:, places[0]]).float().clamp_min(1e-30).rsqrt()
        for place, cross in zip(places, (upright, turned), strict=True):
            low, high = cross.view(b, t, -1).aminmax(dim=1)
            right[:, place], inverted[:, place] = high * length, -low * length
    return right, inverted


def _cross_terms(
    seen: Observation, shift_px: Tensor, grid: Templates, block: int
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Cross terms (b t, n) of n slices at a time and of the same slices turned, and the places of both among the rotations."""
    weighted = seen.spectrum * (seen.gain * seen.precision)
    moved = weighted[:, None] * shift_phase(-shift_px, seen.box, weighted.shape[1])
    dtype, r = grid.real.dtype, grid.real.shape[1]
    real, imaginary = (part.flatten(0, 1).to(dtype) for part in (moved.real, moved.imag))
    for start in range(0, r, block):
        up = slice(start, min(start + block, r))
        a, b = real @ grid.real[:, up], imaginary @ grid.imaginary[:, up]
        yield up, slice(r + up.start, r + up.stop), a + b, a.sub_(b)


def shift_scores(seen: Observation, shift_px: Tensor, slices: Tensor) -> Tensor:
    """Cross term of candidate slices (b, k, m) at every shift (b, t, 2): (b, k, t). The norm does not depend on shift."""
    weighted = seen.spectrum * (seen.gain * seen.precision)
    moved = weighted[:, None] * shift_phase(-shift_px, seen.box, weighted.shape[1])
    return (
        torch.view_as_real(slices).flatten(-2) @ torch.view_as_real(moved).flatten(-2).mT
    ).float()


@dataclass(frozen=True)
class PoseTerms:
    """Scores of p poses with their derivatives in (rotation vector in the particle frame, shift in pixels).

    Attributes:
        gram: (p, 7, 7) inner products of (y, f, df/dw 1-3, df/ds 1-2), each coefficient weighted by w.
    """

    gram: Tensor

    @property
    def score(self) -> Tensor:
        """(p,) the score: larger is better."""
        return self.cross - 0.5 * self.power

    @property
    def cross(self) -> Tensor:
        """(p,) sum w Re(conj(y) f)."""
        return self.gram[:, 0, 1]

    @property
    def power(self) -> Tensor:
        """(p,) sum w |f|^2; the scale that fits best is cross / power."""
        return self.gram[:, 1, 1]

    @property
    def gradient(self) -> Tensor:
        """(p, 5) derivative of the score."""
        return self.gram[:, 2:, 0] - self.gram[:, 2:, 1]

    @property
    def normal(self) -> Tensor:
        """(p, 5, 5) Gauss-Newton matrix: minus the mean second derivative of the score."""
        return self.gram[:, 2:, 2:]


def pose_terms(
    reference: Projector,
    seen: Observation,
    image: Tensor,
    rotation: Tensor,
    shift_px: Tensor,
    fused: bool = False,
) -> PoseTerms:
    """Evaluate poses (rotation (p, 3, 3), shift_px (p, 2)) of the images ``image`` (p,) int64.

    On a CPU by ``ops.fourier.slices_cpu``; on other devices ``scores_cuda`` compiles the evaluation. The result is the same to
    rounding.
    """
    if rotation.device.type == "cpu":
        return PoseTerms(
            slices_cpu.gram(*for_kernels(reference, seen), (image, rotation, shift_px))
        )
    chunk = rows_at_once(seen.spectrum.shape[1], rotation.device)
    evaluate = fused_gram if fused else gram_of_tensors
    parts = [
        evaluate(reference, seen, *rows)
        for rows in zip(
            image.split(chunk), rotation.split(chunk), shift_px.split(chunk), strict=True
        )
    ]
    return PoseTerms(torch.cat(parts))


def for_kernels(reference: Projector, seen: Observation) -> tuple[tuple, tuple]:
    """What the compiled loops take of a map and of images."""
    frequency = half_plane(seen.box).frequency[: seen.spectrum.shape[1]]
    slices = reference.table, reference.reach, reference.padding, seen.box
    return slices, (frequency, seen.spectrum, seen.gain, seen.precision, seen.magnification)


def fused_gram(
    reference: Projector, seen: Observation, image: Tensor, rotation: Tensor, shift_px: Tensor
) -> Tensor:
    """``gram_of_tensors`` (p, 7, 7) compiled for CUDA devices; image (p,), rotation (p, 3, 3), shift_px (p, 2)."""
    frequency = half_plane(seen.box, rotation.device).frequency[: seen.spectrum.shape[1]]
    table = (reference.table, reference.reach, reference.padding, seen.box)
    images = (torch.view_as_real(seen.spectrum), seen.gain, seen.precision)
    poses = (image, rotation, shift_px, seen.magnification)
    return square(compiled_products()(*table, frequency, *images, *poses))


def gram_of_tensors(
    reference: Projector, seen: Observation, image: Tensor, rotation: Tensor, shift_px: Tensor
) -> Tensor:
    """Inner products (p, 7, 7) of (y, f, df/dw 1-3, df/ds 1-2), all weighted by sqrt(w); poses as for ``pose_terms``.

    The image is moved rather than the prediction, so every product is one of real vectors of 2 m numbers.
    """
    count = seen.spectrum.shape[1]
    frequency = half_plane(seen.box, rotation.device).frequency[:count]
    stretch = None if seen.magnification is None else seen.magnification[image]
    value, dp = slices_with_gradient(reference, rotation, of_each(frequency, stretch))
    root = seen.precision[image].sqrt()
    weight = (root * seen.gain[image])[..., None]
    y = seen.spectrum[image] * root * shift_phase(-shift_px, seen.box, count)
    f = value * weight
    # df/ds = 2 pi i k / d f
    turned = torch.stack([-f[..., 1], f[..., 0]], -1) * (2 * torch.pi / seen.box)
    rows = torch.stack(
        [
            torch.view_as_real(y),
            f,
            *(dp * weight[:, None]).unbind(1),
            turned * frequency[:, :1],
            turned * frequency[:, 1:],
        ],
        1,
    ).flatten(2)
    return rows @ rows.mT


def residual_power(y: Tensor, prediction: Tensor) -> Tensor:
    """|y - f|^2 (b, m)."""
    difference = y - prediction
    return difference.real**2 + difference.imag**2


def sum_power(power: Tensor, shell: Tensor, n_shells: int, group: Tensor, n_groups: int) -> Tensor:
    """Sum of power (b, m) per group (b,) of the images and shell (m,): (n_groups, n_shells) float64."""
    if n_groups == 1:
        power = power.sum(0, keepdim=True, dtype=torch.float64)
        return power.new_zeros(1, n_shells).index_add_(1, shell, power)
    place = group[:, None] * n_shells + shell
    total = torch.zeros(n_groups * n_shells, dtype=torch.float64, device=power.device)
    return total.index_add_(0, place.flatten(), power.double().flatten()).view(n_groups, -1)
