"""Particles of a phantom, simulated in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.transforms import half_plane, unpack
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.pose.scores import Observation
from cryotorch.particles import Optics, Particles, unposed
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.settings import (
    EMSettings,
    ImageGrid,
    MaskSettings,
    ScheduleSettings,
    SearchSettings,
)


@dataclass
class World:
    """A molecule, its particles with their true poses, their images, and settings to refine them with.

    Images carry white noise of variance 1 per pixel; ``volume`` is on their grey scale.
    """

    volume: Tensor
    truth: Particles
    images: Tensor
    settings: EMSettings
    blind: Particles = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.truth)
        self.blind = self.truth.replace(
            rotation=torch.eye(3).repeat(n, 1, 1),
            shift=torch.zeros(n, 2),
            scale=torch.ones(n),
            has_pose=False,
        )

    def batches(self, size: int = 32) -> Batches:
        return Batches(self.images, self.truth.half, size)


@lru_cache
def molecule(box: int, pixel: float, symmetry: str) -> Tensor:
    """The phantom: most of the time of a small world, so made once."""
    return phantom(box, pixel, point_group(symmetry))


@pytest.fixture
def simulate() -> Callable[..., World]:
    """simulate(n, snr, ...): ``snr`` is that of the whole image before the noise, None = no noise."""

    def simulate(
        n: int = 60,
        snr: float | None = 2.0,
        box: int = 24,
        pixel: float = 4.0,
        symmetry: str = "C1",
        shift_px: float = 1.0,
        scale_sigma: float = 0.0,
        groups: int = 1,
        seed: int = 1,
        **changes,
    ) -> World:
        generator = torch.Generator().manual_seed(seed)
        group = point_group(symmetry)
        volume = molecule(box, pixel, symmetry)
        lens = [torch.full((groups,), value) for value in (300.0, 2.7, 0.1, pixel)]
        defocus = (
            9000 + 9000 * torch.rand(n, 1, generator=generator) + torch.tensor([300.0, -300.0])
        )
        angle = 3.14 * torch.rand(n, 1, generator=generator)
        scale = 1 + scale_sigma * torch.randn(n, generator=generator)
        truth = unposed(n, Optics(*lens)).replace(
            rotation=random_rotations(n, generator),
            shift=pixel * shift_px * torch.randn(n, 2, generator=generator),
            defocus=torch.cat([defocus, angle], 1),
            scale=scale,
            half=torch.arange(n) % 2,
            optics_group=torch.arange(n) * groups // n,
            has_pose=True,
        )
        ctf = contrast_transfer(
            half_plane(box).frequency / (box * pixel),
            truth.defocus,
            truth.phase_shift,
            *(column[truth.optics_group] for column in lens[:3]),
        )
        clean = unpack(project(volume, truth.rotation, truth.shift / pixel, ctf, scale), box)
        factor = ((snr or 1.0) / clean.var()) ** 0.5
        images = clean * factor
        if snr is not None:
            images = images + torch.randn(n, box, box, generator=generator)
        settings = EMSettings(
            box=box,
            pixel_size=pixel,
            group=group,
            search=SearchSettings(grid_step=0.25, shift_extent=3.0),
            schedule=ScheduleSettings(first_limit=4.0, highest_limit=box / 2 - 1, max_iterations=3),
            mask=MaskSettings(),
            split=box * pixel / 20,
            window=(0.85 * box / 2, 0.99 * box / 2),
        )
        return World(volume * factor, truth, images, replace(settings, **changes))

    return simulate


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
