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
from cryotorch.particles import Optics, Particles, unposed
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.settings import EMSettings, MaskSettings, ScheduleSettings, SearchSettings


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
