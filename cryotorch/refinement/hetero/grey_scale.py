"""Maps of any grey scale brought to that of the images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import extract_slices
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.scores import Observation, grid_correlations, pose_terms, shift_scores
from cryotorch.refinement.class_search import ClassSearch
from cryotorch.refinement.pose_search.search import shift_grid

SAMPLE = 200  # images
FEW = 10  # images, by which the scale of a map is not known
ROUNDS = 2  # in which poses are found anew with the scale so far


@dataclass(frozen=True)
class GreyScale:
    """Factors (k,) on the maps; doubt: standard errors by which the images correlate better with them than with their inverse."""

    factor: Tensor
    doubt: float


def grey_scale(
    maps: Tensor, images: Observation, limit: float, group: Tensor, shift_extent: float
) -> GreyScale:
    """The factors that bring maps (k, d, d, d) to the grey scale of images, by their projections up to a limit in Fourier pixels.

    Images first choose map and pose by normalised correlation, which knows no scale; then those of a map have the one that fits best, sum of
    cross terms over sum of powers. A map that few images choose takes that of all.
    """
    n = len(images.spectrum)
    images = images.of(torch.linspace(0, n - 1, min(SAMPLE, n)).long().to(images.gain.device))
    images = images.limited(half_plane(images.box).count(limit))
    size = maps.std((1, 2, 3)).clamp_min(1e-30)
    unit = maps / size[:, None, None, None]
    search = ClassSearch(unit, limit, group, shift_extent)
    found = [_correlated(images, search, k) for k in range(len(maps))]
    right = torch.stack([one[0] for one in found], 1)
    inverted = torch.stack([one[1] for one in found], 1).amax(1)
    margin = right.amax(1) - inverted
    doubt = float(margin.mean() / margin.std().clamp_min(1e-30)) * len(margin) ** 0.5
    terms = torch.stack([one[2] for one in found], 1)
    factor = _factors(terms, right.argmax(1), size.new_ones(len(size)))
    for _ in range(ROUNDS):
        scaled = unit * factor[:, None, None, None]
        poses, evidence = ClassSearch(scaled, limit, group, shift_extent)(images)
        terms = torch.stack([torch.stack([p.terms.cross, p.terms.power], 1) for p in poses], 1)
        factor = factor * _factors(terms, evidence.argmax(1), torch.ones_like(factor))
    return GreyScale(factor / size, doubt)


def _factors(terms: Tensor, best: Tensor, without: Tensor) -> Tensor:
    """Sum of cross terms over sum of powers (k,) by terms (b, k, 2) of the images that are best (b,) with each map."""
    chosen = torch.nn.functional.one_hot(best, terms.shape[1]).to(terms)[..., None]
    sums = (terms * chosen).sum(0)
    of_all = (sums[:, 0].sum() / sums[:, 1].sum().clamp_min(1e-30)).clamp_min(1e-6)
    own = (sums[:, 0] / sums[:, 1].clamp_min(1e-30)).clamp_min(1e-6)
    return torch.where(chosen[..., 0].sum(0) < FEW, of_all * without, own)


def _correlated(images: Observation, search: ClassSearch, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Best normalised correlations (b,) with map k and its inverse, and the terms (b, 2), cross and power, at the pose of the former."""
    reference, device = search.references[k], images.gain.device
    plane, grid = half_plane(images.box, device), reference.grid
    assert grid is not None
    count = plane.count(reference.coarse_limit)
    low = images.limited(count)
    step = max(1.0, images.box / (4 * reference.coarse_limit))
    shifts = shift_grid(max(search.shift_extent, step), step, device)
    shifts = shifts.expand(len(low.spectrum), -1, -1)
    upright, inverted = grid_correlations(low, shifts, grid)
    best, which = upright.max(1)
    rotation = grid.rotation[which]
    slices = extract_slices(reference.slices, rotation, plane.frequency[:count])
    at = shift_scores(low, shifts, slices[:, None])[:, 0].argmax(1)
    shift = torch.take_along_dim(shifts, at[:, None, None], 1)[:, 0]
    image = torch.arange(len(best), device=device)
    terms = pose_terms(reference.slices, low, image, rotation, shift)
    return best, inverted.amax(1), torch.stack([terms.cross, terms.power], 1)
