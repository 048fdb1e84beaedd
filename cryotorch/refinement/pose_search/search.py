"""Pose search: every rotation of a coarse grid by matrix products, then Gauss-Newton on the few best.

1. Coarse: at a low limit all images of a batch see the same rotations, and the same shifts around their last centre. The best
   ``candidates`` rotations are kept, and the particle's previous pose.
2. Polish: damped Gauss-Newton (Levenberg 1944, Marquardt 1963, doi:10.1137/0111030) over rotation and shift while the limit
   grows from the coarse to the current one and the candidates are thinned out. A step is kept only if the score rises.

The inverse of the last normal matrix is the covariance of the pose (Laplace approximation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cryotorch.ops.fourier import slices_cpu
from cryotorch.ops.fourier.slices import Projector, extract_slices, projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import from_rotation_vector, rotation_grid
from cryotorch.ops.geometry.symmetry import in_asymmetric_unit
from cryotorch.ops.pose.scores import (
    Observation,
    PoseTerms,
    Templates,
    for_kernels,
    grid_scores,
    pose_terms,
    shift_scores,
    templates,
)
from cryotorch.refinement.pose_search.candidates import (
    ALWAYS_CLIMBED,
    single_candidate,
    thin_out,
    worth_a_climb,
)
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.settings import SearchSettings

# A weak prior that keeps a flat posterior proper: radians, pixels.
PRIOR_SIGMA = (math.radians(13),) * 3 + (4.5,) * 2
WINNER_STEPS = 5  # more for the pose that stays: its end must not depend on where it came from
DAMPING_START, MIN_DAMPING, MAX_DAMPING = 0.05, 0.01, 1e4
LONGEST_STEP = 0.2, 3.0  # radians, pixels of one step
ASCENT_RULE = (DAMPING_START, MIN_DAMPING, MAX_DAMPING, *LONGEST_STEP)


@dataclass(frozen=True)
class Reference:
    """One half set's map, prepared for an iteration's searches.

    Attributes:
        slices: the projector, up to the current limit; limit: Fourier pixels; grid: the coarse search's templates, None
            for a search around known poses.
    """

    slices: Projector
    limit: float
    coarse_limit: float
    grid: Templates | None


@dataclass(frozen=True)
class Poses:
    """What a search found for b images.

    Attributes:
        rotation: (b, 3, 3); shift_px: (b, 2); covariance: (b, 5, 5) of (rotation vector, shift in pixels);
        terms: score and products at the final limit.
        certain: (b,) bool, whether all candidates that were not hopeless came to one pose already at the first limit.
    """

    rotation: Tensor
    shift_px: Tensor
    covariance: Tensor
    terms: PoseTerms
    certain: Tensor

    def of(self, rows: Tensor) -> Poses:
        """Those of some images, ``rows`` (r,)."""
        names = ("rotation", "shift_px", "covariance", "certain")
        some = {name: getattr(self, name)[rows] for name in names}
        return Poses(terms=PoseTerms(self.terms.gram[rows]), **some)

    def joined(self, other: Poses, order: Tensor) -> Poses:
        """These and others, the p-th of them being number ``order[p]`` (b + c,) of the result."""
        back, names = order.argsort(), ("rotation", "shift_px", "covariance", "certain")
        both = {k: torch.cat([getattr(self, k), getattr(other, k)])[back] for k in names}
        return Poses(terms=PoseTerms(torch.cat([self.terms.gram, other.terms.gram])[back]), **both)


def prepare_reference(
    volume: Tensor,
    limit: float,
    settings: SearchSettings,
    group: Tensor | None,
    matmul_dtype: torch.dtype,
) -> Reference:
    """Pad and transform a half map (d, d, d), and slice it on the rotation grid of the asymmetric unit of a group (g, 3, 3); on none without one."""
    coarse = min(limit, settings.coarse_limit)
    slices = projector(volume, limit)
    if group is None:
        return Reference(slices, limit, coarse, None)
    step = grid_step(coarse, settings)
    # half of the in-plane angles: the templates stand for the other half too
    rotation = rotation_grid(step, lambda view: in_asymmetric_unit(view, group.cpu()), math.pi).to(
        volume.device
    )
    plane = half_plane(volume.shape[-1], volume.device)
    low = extract_slices(slices, rotation, plane.frequency[: plane.count(coarse)])
    return Reference(slices, limit, coarse, templates(low, rotation, matmul_dtype))


def grid_step(limit: float, settings: SearchSettings) -> float:
    """Radians between the rotations of the coarse search."""
    return settings.grid_step or min(max(1 / limit, math.radians(7)), math.radians(12))


@lru_cache(maxsize=32)
def shift_grid(radius: float, step: float, device: torch.device | str = "cpu") -> Tensor:
    """Shifts (t, 2) in pixels on a square grid inside a disc; (0, 0) is among them."""
    n = math.floor(radius / step + 1e-6)
    line = torch.arange(-n, n + 1.0, device=device) * step
    y, x = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], 1)
    return points[points.norm(dim=1) <= radius + 1e-6]


def coarse_candidates(
    reference: Reference,
    images: Observation,
    rotation: Tensor | None,
    shift_px: Tensor,
    shift_extent: float,
    settings: SearchSettings,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best grid rotations of every image, each with its best shift: image (p,), rotation, shift, ordered by image.

    Args:
        rotation: (b, 3, 3) previous rotations, tried as one more candidate; None = there are none.
        shift_px: (b, 2) centres of the shift search; shift_extent: its radius in pixels.
    """
    device = shift_px.device
    plane = half_plane(images.box, device)
    count = plane.count(reference.coarse_limit)
    low = images.limited(count)
    step = max(1.0, images.box / (4 * reference.coarse_limit))
    shifts = shift_px[:, None] + shift_grid(max(shift_extent, step), step, device)
    grid = reference.grid
    assert grid is not None  # a local search has none, and does not come here
    scores = grid_scores(low, shifts, grid)
    kept = min(settings.candidates, scores.shape[1])
    top = scores.topk(kept, 1)
    rotations, stays = grid.rotation[top.indices], worth_a_climb(top.values, ALWAYS_CLIMBED)
    if rotation is not None:
        stays = torch.cat([stays, torch.ones_like(stays[:, :1])], 1)
        rotations = torch.cat([rotations, rotation[:, None]], 1)
    kept = rotations.shape[1]
    slices = extract_slices(reference.slices, rotations.flatten(0, 1), plane.frequency[:count])
    best = shift_scores(low, shifts, slices.unflatten(0, (-1, kept))).argmax(-1)
    at = torch.take_along_dim(shifts, best[..., None], 1)
    if rotation is not None:
        at[:, -1] = shift_px  # the previous pose is tried as it was
    rows = torch.nonzero(stays.flatten())[:, 0]  # the device is waited for once
    return rows // kept, rotations.flatten(0, 1)[rows], at.flatten(0, 1)[rows]


def ladder(first: float, last: float) -> list[float]:
    """Limits from the coarse to the current one, each 1.6 times the one before plus 1."""
    limits = [first]
    while limits[-1] < last - 0.5:
        limits.append(min(last, 1.6 * limits[-1] + 1))
    return limits


def polish(
    reference: Reference,
    images: Observation,
    image: Tensor,
    rotation: Tensor,
    shift_px: Tensor,
    settings: SearchSettings,
    prior: PosePrior | None = None,
    first: float | None = None,
) -> Poses:
    """Climb from the candidates, poses (p, 3, 3), (p, 2) of images (p,), of every image at least one, ordered by image, to one pose per image.

    ``prior``, of the b images, holds them inside extents and priors; ``first`` limit, else that of the coarse search.
    """
    plane = half_plane(images.box, rotation.device)
    limits = ladder(first or reference.coarse_limit, reference.limit)
    for rung, limit in enumerate(limits):
        view = images.limited(plane.count(limit))
        held = prior and prior.of(image)
        terms, rotation, shift_px = ascend(
            reference.slices,
            view,
            image,
            rotation,
            shift_px,
            settings.newton_steps,
            fused=settings.compile,
            prior=held,
        )
        last = rung == len(limits) - 1
        kept, sure = (
            max(2, math.ceil(n / 3 ** (rung + 1))) for n in (settings.candidates, ALWAYS_CLIMBED)
        )
        kept = 1 if last and rung else kept
        value = _value(terms, rotation, shift_px, held)
        rows = thin_out(value, rotation, shift_px, image, kept, sure)
        if rung == 0:
            certain = single_candidate(image[rows], len(images.spectrum))
            if last:
                rows = thin_out(value, rotation, shift_px, image, 1)
        image, rotation, shift_px = image[rows], rotation[rows], shift_px[rows]
    terms, held = PoseTerms(terms.gram[rows]), prior and prior.of(image)
    terms, rotation, shift_px = ascend(
        reference.slices,
        view,
        image,
        rotation,
        shift_px,
        WINNER_STEPS,
        terms,
        settings.compile,
        held,
    )
    spread = covariance(terms, rotation, shift_px, held)
    return Poses(rotation, shift_px, spread, terms, certain)


def ascend(
    slices: Projector,
    images: Observation,
    image: Tensor,
    rotation: Tensor,
    shift_px: Tensor,
    steps: int,
    terms: PoseTerms | None = None,
    fused: bool = False,
    prior: PosePrior | None = None,
) -> tuple[PoseTerms, Tensor, Tensor]:
    """Damped Gauss-Newton steps on every pose; returns the terms at the end, rotations (p, 3, 3) and shifts (p, 2).

    ``terms`` are those of the start, where they are known already; ``prior`` is of the poses. On a CPU, without a prior, all
    steps are one compiled loop.
    """
    poses = image, rotation, shift_px
    if prior is not None or rotation.device.type != "cpu":
        return ascend_by_tensors(slices, images, *poses, steps, terms, fused, prior)
    start, weak_prior = None if terms is None else terms.gram, _prior_precision(rotation)
    gram, rotation, shift_px = slices_cpu.ascend(
        *for_kernels(slices, images), poses, steps, ASCENT_RULE, weak_prior, start
    )
    return PoseTerms(gram), rotation, shift_px


def ascend_by_tensors(
    slices: Projector,
    images: Observation,
    image: Tensor,
    rotation: Tensor,
    shift_px: Tensor,
    steps: int,
    terms: PoseTerms | None = None,
    fused: bool = False,
    prior: PosePrior | None = None,
) -> tuple[PoseTerms, Tensor, Tensor]:
    """``ascend``, all poses of a step at once: image (p,), rotation (p, 3, 3), shift_px (p, 2)."""
    terms = terms or pose_terms(slices, images, image, rotation, shift_px, fused)
    value = _value(terms, rotation, shift_px, prior)
    damping = torch.full_like(value, DAMPING_START)
    for _ in range(steps):
        if prior is None:
            step = newton_step(terms.gradient, terms.normal, damping)
            trial_rotation = from_rotation_vector(step[:, :3]) @ rotation
            trial_shift = shift_px + step[:, 3:]
        else:
            step = newton_step(*prior.derivatives(terms, rotation, shift_px), damping)
            trial_rotation, trial_shift = prior.step(rotation, shift_px, step)
        trial = pose_terms(slices, images, image, trial_rotation, trial_shift, fused)
        trial_value = _value(trial, trial_rotation, trial_shift, prior)
        better = trial_value > value
        rotation = torch.where(better[:, None, None], trial_rotation, rotation)
        shift_px = torch.where(better[:, None], trial_shift, shift_px)
        value = torch.where(better, trial_value, value)
        terms = PoseTerms(torch.where(better[:, None, None], trial.gram, terms.gram))
        damping = torch.where(better, damping / 4, damping * 8).clamp(MIN_DAMPING, MAX_DAMPING)
    return terms, rotation, shift_px


def _value(terms: PoseTerms, rotation: Tensor, shift_px: Tensor, prior: PosePrior | None) -> Tensor:
    """What is climbed, (p,): the score, less what the priors cost."""
    return terms.score if prior is None else terms.score - prior.cost(rotation, shift_px)


def newton_step(gradient: Tensor, normal: Tensor, damping: Tensor) -> Tensor:
    """Solve (H + damping diag H + prior) x = gradient, (p, 5), H (p, 5, 5), damping (p,); steps are no longer than ``LONGEST``."""
    diagonal = normal.diagonal(dim1=1, dim2=2)
    ridge = damping[:, None] * diagonal + 0.5 * _prior_precision(diagonal)
    # solve would wait for the device to see whether it can; with the prior it always can
    step = torch.linalg.solve_ex(normal + torch.diag_embed(ridge), gradient).result
    turn = step[:, :3].norm(dim=1, keepdim=True)
    move = step[:, 3:].norm(dim=1, keepdim=True)
    longest_turn, longest_move = LONGEST_STEP
    shorter = torch.minimum(
        longest_turn / turn.clamp_min(1e-9), longest_move / move.clamp_min(1e-9)
    )
    return step * shorter.clamp(max=1)


def covariance(
    terms: PoseTerms,
    rotation: Tensor | None = None,
    shift_px: Tensor | None = None,
    prior: PosePrior | None = None,
) -> Tensor:
    """Laplace covariance (2 H + prior)^-1, (p, 5, 5), of (rotation vector, shift in pixels): a log-likelihood is twice a score."""
    if prior is None:
        normal, along = terms.normal.double(), None
    else:
        assert rotation is not None and shift_px is not None
        normal = prior.derivatives(terms, rotation, shift_px)[1].double()
        along = prior.with_fulcrum(rotation).double()
    precision = 2 * normal + torch.diag(_prior_precision(terms.normal).double())
    spread = torch.linalg.inv_ex(precision).inverse
    if along is not None:
        spread = along @ spread @ along.mT
    return spread.to(terms.gram.dtype)


def _prior_precision(like: Tensor) -> Tensor:
    return _constant(like.dtype, like.device)


@lru_cache
def _constant(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(PRIOR_SIGMA, dtype=dtype, device=device) ** -2
