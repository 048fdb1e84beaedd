"""Images of two states at their true poses, in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import extract_slices, projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.refinement.hetero.classify import Masks
from cryotorch.refinement.hetero.fixed_poses import PosedImages
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.settings import ImageGrid

BOX, PIXEL = 24, 6.0


@dataclass
class States:
    """n images of two maps (2, d, d, d), ``state`` (n,) which each shows; the noise has variance 1."""

    images: PosedImages
    state: Tensor
    maps: Tensor
    settings: HeteroSettings
    masks: Masks


@pytest.fixture
def two_states(simulate: Callable) -> Callable[..., States]:
    """two_states(n, snr, change, noise_only, **settings): the second state lacks ``change`` of one side of the first; 24 px of 6 Å."""

    def make(
        n: int = 400, snr: float = 0.5, change: float = 1.0, noise_only: bool = False, **settings
    ) -> States:
        world = simulate(n, None, box=BOX, pixel=PIXEL)
        draw = torch.Generator().manual_seed(5)
        side = (torch.arange(BOX) > BOX // 2).float()[:, None, None]
        maps = torch.stack([world.volume, world.volume * (1 - change * side)])
        grid = ImageGrid.whole(BOX, PIXEL)
        made = HeteroSettings(
            **{
                **dict(grid=grid, group=point_group("C1"), n_classes=2, limit=10, split=4.0),
                **dict(first_limit=7, n_starts=1, n_repeats=1, most_passes=12),
                **settings,
            }
        )
        count = half_plane(BOX).count(made.limit)
        rows = torch.arange(n)
        blank = torch.zeros(n, BOX, BOX)
        seen = observe(world.truth, rows, blank, torch.ones(1, BOX // 2 + 1), grid).limited(count)
        state = (torch.rand(n, generator=draw) < 0.4).long()
        frequency = half_plane(BOX).frequency[:count]
        slices = torch.stack(
            [extract_slices(projector(v), world.truth.rotation, frequency) for v in maps]
        )
        signal = slices[state, rows] * seen.gain
        power = float(2 * signal.abs().square().sum(1).mean() / BOX**2)
        gain = (snr / power) ** 0.5
        noise = torch.randn(n, count, 2, generator=draw) / 2**0.5
        y = torch.view_as_complex(noise) + (0 if noise_only else gain) * signal
        half = torch.randperm(n, generator=draw) % 2
        images = PosedImages(
            *(seen.gain * y, seen.gain**2, y.abs().square()),
            *(world.truth.rotation, half, torch.zeros(n, dtype=torch.int64), BOX),
        )
        masks = Masks(soft_sphere(BOX, 9, 2))
        return States(images, state, gain * maps, made, masks)

    return make
