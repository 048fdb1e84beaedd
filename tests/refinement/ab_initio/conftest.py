"""A molecule whose images are in memory as the ab-initio stages take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.settings import ImageGrid


@dataclass
class Beginning:
    """Images of a molecule without poses: true map and poses, spectra, settings, optics groups (n,)."""

    volume: Tensor
    rotation: Tensor
    images: Observation
    settings: AbInitioSettings
    group: Tensor


@pytest.fixture
def begin(simulate: Callable) -> Callable[..., Beginning]:
    """begin(n, snr, symmetry, noise_only, ...): 24 px of 6 Å, a particle of 17 px; others are settings."""

    def begin(
        n: int = 500,
        snr: float = 0.3,
        symmetry: str = "C1",
        noise_only: bool = False,
        **settings,
    ) -> Beginning:
        world = simulate(n, snr, box=24, pixel=6.0, symmetry=symmetry)
        grid = ImageGrid.whole(24, 6.0)
        images = world.images
        if noise_only:
            images = torch.randn(images.shape, generator=torch.Generator().manual_seed(3))
        noise = torch.ones(1, 13)
        seen = observe(world.blind, torch.arange(n), images, noise, grid)
        limits: dict = dict(
            group=point_group("C1"),
            first_limit=4.0,
            last_limit=8.0,
            diameter=17.0,
            shift_extent=2.0,
        )
        made = AbInitioSettings(grid=grid, **{**limits, "batch": 100, **settings})
        seen = seen.limited(half_plane(24).count(made.last_limit))
        return Beginning(
            world.volume, world.truth.rotation, seen, made, torch.zeros(n, dtype=torch.int64)
        )

    return begin
