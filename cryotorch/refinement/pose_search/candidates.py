"""Which of the poses that a search has met are worth going on with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.geometry.rotations import rotation_angle

SAME_ROTATION, SAME_SHIFT = math.radians(1), 0.5  # radians, pixels: two candidates found one pose
SCORE_CUTOFF = 15.0  # score below the best at which a candidate is given up
ALWAYS_CLIMBED = 8  # candidates that are always climbed from; the others only if
CLIMB_CUTOFF = 6.0  # score below the best separates them by less: a likelihood ratio of exp(12)


def worth_a_climb(score: Tensor, sure: int, place: Tensor | None = None) -> Tensor:
    """Which candidates, by ``score`` (b, k), best first, stay: the first ``sure``, and those hardly worse than the best.

    ``place`` (b, k): of each among those that count, from 0; None = all do.
    """
    if place is None:
        place = torch.arange(score.shape[1], device=score.device)
    return (place < sure) | (score >= score[:, :1] - CLIMB_CUTOFF)


def single_candidate(image: Tensor, n: int) -> Tensor:
    """Which of n images have one candidate left, given the images (p,) of all candidates."""
    count = torch.zeros(n, dtype=torch.int64, device=image.device)
    return count.index_add_(0, image, torch.ones_like(image)) == 1


def thin_out(
    score: Tensor,
    rotation: Tensor,
    shift_px: Tensor,
    image: Tensor,
    kept: int,
    sure: int | None = None,
) -> Tensor:
    """Rows (r,) of at most ``kept`` of the p candidates per image, best first, ordered by image.

    score and image (p,), rotation (p, 3, 3), shift_px (p, 2).

    Of two that climbed to the same pose only the better one stays, and none stays whose score is ``SCORE_CUTOFF`` below the best:
    later, finer shells would have to outweigh a likelihood ratio of exp(2 * SCORE_CUTOFF). Beyond the first ``sure`` the candidates
    must be ``worth_a_climb``.
    """
    order = score.argsort(descending=True, stable=True)
    order = order[image[order].argsort(stable=True)]
    image = image[order]
    place = torch.arange(len(image), device=image.device) - torch.searchsorted(image, image)
    last, farthest = torch.stack([image[-1], place.max()]).tolist()  # the device is waited for once
    table = torch.full((last + 1, farthest + 1), -1, device=image.device)
    table[image, place] = order
    rows = table.clamp_min(0)
    r, s, value = rotation[rows], shift_px[rows], score[rows]
    near = rotation_angle(r[:, :, None], r[:, None]) < SAME_ROTATION
    near &= (s[:, :, None] - s[:, None]).norm(dim=-1) < SAME_SHIFT
    k = farthest + 1
    earlier = torch.ones(k, k, dtype=torch.bool, device=score.device).tril(-1)
    stays = (table >= 0) & ~(near & earlier).any(-1) & (value >= value[:, :1] - SCORE_CUTOFF)
    stays &= stays.cumsum(1) <= kept
    if sure is not None and sure < kept:
        stays &= worth_a_climb(value, sure, stays.cumsum(1) - 1)
    return rows[stays]
