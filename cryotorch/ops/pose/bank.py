"""Soft EM as matrix products: images against all slices of a bank, and back onto them.

At the low resolutions of a beginning all images of a batch see the same slices, of maps or of class averages. The posterior of image i
over slice j and shift t, at inverse temperature b, is

    W_ijt = exp(2 b S_ijt) / sum over j and t,    S_ijt = sum_k w_i (Re(conj(y_i) f) - |f|^2 / 2),   f = c_i exp(2 pi i k.t / d) p_j

and the normal equations of a slice are sums over images, weighted with it:

    numerator_j = sum_it W_ijt w_i c_i exp(-2 pi i k.t / d) y_i,    weight_j = sum_it W_ijt w_i c_i^2

so that each slice, not each image, is inserted into a map, and the time does not depend on how wide the posterior is. The temperature is
annealing as in Rose 1998, doi:10.1109/5.726788; a log-likelihood is twice a score, see ``scores``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from scipy.optimize import brentq
from torch import Tensor

from cryotorch.ops.fourier.transforms import shift_phase
from cryotorch.ops.pose.scores import Observation, Templates

CPU_SCORES, GPU_SCORES = 1 << 20, 1 << 27  # scores held at once: they stay in a CPU's cache
SAMPLE_IMAGES = 48  # that a temperature is found from
LEAST_INVERSE = 1e-6  # least inverse temperature
PRECISION = 1e-4  # to which it is found, of itself


@dataclass(frozen=True)
class Bank:
    """What images are compared with: the slices of k classes, class by class.

    Attributes:
        slices: r slices, k equal blocks of r / k; each stands for two hypotheses, upright and turned by half a turn.
        n_classes: k.
        log_share: (k,) logarithm of the prior share of each class.
    """

    slices: Templates
    n_classes: int
    log_share: Tensor


@dataclass(frozen=True)
class Assignment:
    """The posterior of b images, summed up.

    Attributes:
        numerator: (r, m) complex64; weight: (r, m): sums of each slice.
        best: (b,) number of the best hypothesis: slice, or r + slice for the turned one; shift_px: (b, 2) its shift.
        share: (b, k) posterior of the classes.
        evidence: (b,) logarithm of the mean of exp(2 b S) over the hypotheses; 0 = as an image without a particle.
        size: (b,) effective number of hypotheses, 1 / sum W^2.
    """

    numerator: Tensor
    weight: Tensor
    best: Tensor
    shift_px: Tensor
    share: Tensor
    evidence: Tensor
    size: Tensor


@dataclass(frozen=True)
class _Part:
    """Some images: moved (n t, m) as real and imaginary parts, and the scores (n, t, 2, r), times 2 b, of upright and turned slices."""

    rows: slice
    real: Tensor
    imaginary: Tensor
    scores: Tensor


def assign(
    images: Observation, shift_px: Tensor, bank: Bank, inverse_temperature: float = 1.0
) -> Assignment:
    """The E-step of b images, and what it adds to the M-step. shift_px (b, t, 2): the shifts tried for each image."""
    (b, m), (_, t, _), r = images.spectrum.shape, shift_px.shape, bank.slices.real.shape[1]
    k, device = bank.n_classes, images.spectrum.device
    real, imaginary, weight = torch.zeros(3, r, m, device=device)
    best = torch.empty(b, dtype=torch.int64, device=device)
    share = torch.empty(b, k, device=device)
    evidence, size = torch.empty(2, b, device=device)
    power = images.gain**2 * images.precision
    for part in _scores(images, shift_px, bank, inverse_temperature):
        n = len(part.scores)
        scores = part.scores.view(n, -1)
        most, best[part.rows] = scores.max(1)
        likelihood = scores.sub_(most[:, None]).exp_()
        total = likelihood.sum(1)
        size[part.rows] = (total / likelihood.norm(dim=1)) ** 2
        evidence[part.rows] = most + total.log()
        both, turned = part.scores.unbind(2)
        both.add_(turned)
        share[part.rows] = both.sum(1).unflatten(1, (k, -1)).sum(2) / total[:, None]
        # the images are divided by the sum of the posterior, which has far more numbers
        moved_real, moved_imaginary = (
            (moved.view(n, t, m) / total[:, None, None]).flatten(0, 1)
            for moved in (part.real, part.imaginary)
        )
        weight.addmm_(both.sum(1).mT, power[part.rows] / total[:, None])
        real.addmm_(both.flatten(0, 1).mT, moved_real)
        apart = torch.sub(both, turned, alpha=2, out=turned)  # upright - turned
        imaginary.addmm_(apart.flatten(0, 1).mT, moved_imaginary)
    evidence -= math.log(2 * r // k * t)
    which = torch.take_along_dim(shift_px, (best // (2 * r))[:, None, None], 1)[:, 0]
    numerator = torch.complex(real, imaginary) / (2 * inverse_temperature)
    return Assignment(numerator, weight, best % (2 * r), which, share, evidence, size)


def find_temperature(images: Observation, shift_px: Tensor, bank: Bank, size: float) -> float:
    """The inverse temperature, at most 1, at which the posteriors of a sample have a median effective size.

    shift_px (b, t, 2); ``size``: of hypotheses, see ``Assignment``.
    """
    few = torch.linspace(0, len(shift_px) - 1, min(SAMPLE_IMAGES, len(shift_px)))
    few = few.long().unique().to(shift_px.device)
    no_prior = replace(bank, log_share=torch.zeros_like(bank.log_share))
    parts = _scores(images.of(few), shift_px[few], no_prior, 1.0)
    scores = torch.cat([part.scores.clone() for part in parts])
    prior = _prior(bank)

    def excess(log_inverse: float) -> float:
        log = torch.add(prior, scores, alpha=math.exp(log_inverse)).flatten(1)
        inverse_size = log.softmax(1).square_().sum(1).median()
        return -math.log(float(inverse_size)) - math.log(size)

    # the warmest has the most hypotheses
    ends = math.log(LEAST_INVERSE), 0.0
    if excess(ends[1]) >= 0:
        return 1.0
    if excess(ends[0]) <= 0:
        return LEAST_INVERSE
    root, _ = brentq(excess, *ends, xtol=PRECISION, full_output=True)
    return math.exp(root)


def _scores(
    images: Observation, shift_px: Tensor, bank: Bank, inverse_temperature: float
) -> Iterator[_Part]:
    """The scores of all hypotheses, some images at a time: the memory of one part is that of the next."""
    (b, m), t, r = images.spectrum.shape, shift_px.shape[1], bank.slices.real.shape[1]
    grid, factor = bank.slices, 2 * inverse_temperature
    weighted = factor * images.spectrum * (images.gain * images.precision)
    power = (-0.5 * factor * images.gain**2 * images.precision).to(grid.norm.dtype)
    prior = _prior(bank)
    room = CPU_SCORES if weighted.device.type == "cpu" else GPU_SCORES
    at_once = min(b, max(1, room // (2 * t * r)))
    # asked for once: the system hands out large blocks page by page, which takes as long as filling them
    products = torch.empty(2, at_once * t, r, dtype=grid.real.dtype, device=weighted.device)
    every = torch.empty(at_once, t, 2, r, device=weighted.device)
    for rows in torch.arange(b).split(at_once):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        moved = weighted[part, None] * shift_phase(-shift_px[part], images.box, m)
        real, imaginary = (values.flatten(0, 1).contiguous() for values in (moved.real, moved.imag))
        norm = (power[part] @ grid.norm).float() + prior
        even, odd = (
            torch.mm(values.to(grid.real.dtype), slices, out=into[: len(values)]).float()
            for values, slices, into in zip(
                (real, imaginary), (grid.real, grid.imaginary), products, strict=True
            )
        )
        even, odd = even.view(-1, t, r).add_(norm[:, None]), odd.view(-1, t, r)
        scores = every[: len(rows)]
        torch.add(even, odd, out=scores[:, :, 0])
        torch.sub(even, odd, out=scores[:, :, 1])
        yield _Part(part, real, imaginary, scores)


def _prior(bank: Bank) -> Tensor:
    """(r,) logarithm of the prior share of each slice's class."""
    return bank.log_share.repeat_interleave(bank.slices.real.shape[1] // bank.n_classes)
