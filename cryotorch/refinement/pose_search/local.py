"""The first step of a local search: a grid of rotations and shifts around each particle's own pose."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import extract_slices, of_each
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.pose.scores import Observation, shift_scores
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.pose_search.search import Reference, grid_step, shift_grid
from cryotorch.refinement.settings import SearchSettings

SLICES_AT_ONCE = 16384  # slices


def local_candidates(
    reference: Reference,
    images: Observation,
    rotation: Tensor,
    shift_px: Tensor,
    prior: PosePrior,
    settings: SearchSettings,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best poses of a grid inside each image's extents: image (p,), rotation, shift; p = b * k.

    Args:
        rotation, shift_px: (b, 3, 3) and (b, 2), last poses, tried as one more candidate.
        prior: of the b images.
    """
    extent, device = prior.extent, shift_px.device
    plane = half_plane(images.box, device)
    low = images.limited(plane.count(reference.coarse_limit))
    turns = ball_grid(extent.rotation, grid_step(reference.coarse_limit, settings)).to(device)
    step = max(1.0, images.box / (4 * reference.coarse_limit))
    offsets = shift_grid(extent.shift, step, device)
    pull = offsets.square().sum(1) / (4 * extent.shift_sigma**2)
    cost = turns.square().sum(1) / (4 * extent.rotation_sigma**2)
    kept = min(settings.candidates, len(turns))
    found = [(rotation[:, None], shift_px[:, None])]
    parts = []
    for rows in torch.arange(len(shift_px), device=device).split(
        max(1, SLICES_AT_ONCE // len(turns))
    ):
        here, centre = low.of(rows), prior.shift_px[rows][:, None]
        trial, at_fulcrum = prior.of(rows.repeat_interleave(len(turns))).pose(
            turns.repeat(len(rows), 1), torch.zeros(len(rows) * len(turns), 2, device=device)
        )
        trial, at_fulcrum = (v.unflatten(0, (len(rows), -1)) for v in (trial, at_fulcrum))
        stretch = here.magnification
        if stretch is not None:
            stretch = stretch.repeat_interleave(len(turns), 0)
        frequency = of_each(plane.frequency[: low.spectrum.shape[1]], stretch)
        slices = extract_slices(reference.slices, trial.flatten(0, 1), frequency)
        slices = slices.unflatten(0, (len(rows), -1))
        power = (slices.real**2 + slices.imag**2) @ (here.gain**2 * here.precision)[..., None]
        # the fulcrum's swing moves the slices, which leaves one disc of shifts for all rotations of an image
        slices = slices * shift_phase(at_fulcrum - centre, images.box, slices.shape[-1])
        best, where = (shift_scores(here, centre + offsets, slices) - pull).max(-1)
        top = (best - 0.5 * power[..., 0] - cost).topk(kept, 1).indices
        shift = torch.take_along_dim(at_fulcrum + offsets[where], top[..., None], 1)
        parts.append((torch.take_along_dim(trial, top[..., None, None], 1), shift))
    found += [tuple(torch.cat(v) for v in zip(*parts, strict=True))]
    image = torch.arange(len(shift_px), device=device).repeat_interleave(kept + 1)
    candidates = [torch.cat(v, 1).flatten(0, 1) for v in zip(*found, strict=True)]
    return image, candidates[0], candidates[1]


def ball_grid(radius: float, step: float) -> Tensor:
    """Points (n, 3) of a cubic grid inside a ball, the centre first."""
    n = math.floor(radius / step + 1e-6)
    line = torch.arange(-n, n + 1.0) * step
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    length = points.norm(dim=1)
    inside = length <= radius + 1e-6
    return points[inside][length[inside].argsort(stable=True)]
