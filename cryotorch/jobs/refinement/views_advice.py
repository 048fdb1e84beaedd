"""What the views of a refinement leave unseen of Fourier space."""

from __future__ import annotations

import torch

from cryotorch.findings import Finding
from cryotorch.ops.geometry.directions import random_views
from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.ops.resolution.sampling import sampling_compensation, slices_per_point
from cryotorch.results import IterationResult

SPHERE_POINTS = 500  # on the sphere, of which one of each pair +-u is looked at
MAX_VIEWS = 200_000  # views, copies by symmetry included, that tell the share of the sphere
MIN_RELATIVE_SCF = 0.5  # of the score of as many random views: views within 60 degrees of one axis have 0.8, within 40 degrees 0.4, within 20 degrees 0.05 to 0.3


def views_advice(result: IterationResult, shell: int) -> list[Finding]:
    """Whether the views leave much of a Fourier shell unsampled.

    The sampling compensation factor SCF* over that of as many random views, which have less than 1 by chance. Few particles
    leave gaps too: those are no preferred views.
    """
    rotation = result.particles.rotation
    group = torch.eye(3)[None] if result.group is None else result.group.cpu()
    every = max(1, len(rotation) * len(group) // MAX_VIEWS)
    directions = rotation[::every, 2].cpu()
    points = fibonacci_directions(SPHERE_POINTS)[: SPHERE_POINTS // 2]
    even = random_views(len(directions), generator=torch.Generator().manual_seed(0))[:, 2]
    own, chance = (
        sampling_compensation(slices_per_point(points, views, shell, group))
        for views in (directions, even)
    )
    if own.scf_star >= MIN_RELATIVE_SCF * chance.scf_star:
        return []
    edge = result.map.shape[-1] * result.pixel_size
    seen = dict(unseen=own.unsampled, scf=own.scf_star)
    by_chance = dict(unseen_by_chance=chance.unsampled, scf_by_chance=chance.scf_star)
    return [Finding("views_uneven", resolution=edge / shell, **seen, **by_chance)]
