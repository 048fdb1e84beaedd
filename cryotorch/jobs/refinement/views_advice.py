"""What the views of a refinement leave unseen of Fourier space."""

from __future__ import annotations

import torch

from cryotorch.ops.geometry.directions import random_views
from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.ops.resolution.sampling import sampling_compensation, slices_per_point
from cryotorch.results import IterationResult

POINTS = 500  # on the sphere, of which one of each pair +-u is looked at
MOST = 200_000  # views, copies by symmetry included, that tell the share of the sphere
UNEVEN = 0.5  # of the score of as many random views: views within 60 degrees of one axis have 0.8, within 40 degrees 0.4, within 20 degrees 0.05 to 0.3


def views_advice(result: IterationResult, shell: int) -> list[str]:
    """One sentence where the views leave much of a Fourier shell unsampled, else none.

    The sampling compensation factor SCF* over that of as many random views, which have less than 1 by chance. Few particles
    leave gaps too: those are no preferred views.
    """
    rotation = result.particles.rotation
    group = torch.eye(3)[None] if result.group is None else result.group.cpu()
    every = max(1, len(rotation) * len(group) // MOST)
    seen = rotation[::every, 2].cpu()
    points = fibonacci_directions(POINTS)[: POINTS // 2]
    even = random_views(len(seen), generator=torch.Generator().manual_seed(0))[:, 2]
    own, chance = (
        sampling_compensation(slices_per_point(points, views, shell, group))
        for views in (seen, even)
    )
    if own.scf_star >= UNEVEN * chance.scf_star:
        return []
    edge = result.map.shape[-1] * result.pixel_size
    return [
        f"The views are uneven: they leave {own.unsampled:.0%} of Fourier space at {edge / shell:.3g} Å unseen and sample it with "
        f"SCF* {own.scf_star:.2f}, as many random views {chance.unsampled:.0%} and {chance.scf_star:.2f}. The resolution is that of what was seen; "
        "elsewhere the map is smeared, and may be wrong. Preferred orientation: take particles of other views, tilt, or other grids; "
        "job=orientation_diagnostics volume=<this folder> shows the directions"
    ]
