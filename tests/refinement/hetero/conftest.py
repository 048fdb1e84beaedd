"""Images of two states, in memory: at their true poses, and without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.slices import extract_slices, projector
from cryotorch.ops.fourier.transforms import half_plane, unpack
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.refinement.hetero.classify import Masks
from cryotorch.refinement.hetero.fixed_poses import PosedImages
from cryotorch.refinement.hetero.pipeline import Task
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.image_terms import observe, transfer
from cryotorch.refinement.image_weight import unlimited
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.spectra import Spectra

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


@dataclass
class Searched:
    """What images show, state (n,) of maps (2, d, d, d), and what is to be done with them."""

    maps: Tensor
    state: Tensor
    rotation: Tensor
    task: Task
    settings: HeteroSettings


@pytest.fixture
def states(simulate: Callable) -> Callable[..., Searched]:
    """states(n, snr, part, ...): in ``part`` of the images a molecule lacks all on one side; maps: how many to begin with; others are settings."""

    def states(
        n: int = 300, snr: float = 1.0, part: float = 0.4, maps: int = 1, junk: int = 0, **changes
    ) -> Searched:
        world = simulate(n, snr, box=BOX, pixel=PIXEL)
        sphere = soft_sphere(BOX, 9.0, 2.0)
        first = world.volume * sphere
        x = torch.arange(BOX) - BOX // 2
        second = first * ((3.0 - x) / 2 + 0.5).clamp(0, 1)
        both = torch.stack([first, second])
        draw = torch.Generator().manual_seed(5)
        state = (torch.rand(n, generator=draw) < part).long()
        truth, rows = world.truth, torch.arange(n)
        gain = transfer(truth, rows, BOX, PIXEL).gain
        poses = truth.rotation, truth.shift / PIXEL, gain
        signal = torch.stack([unpack(project(volume, *poses), BOX) for volume in both])
        images = signal[state, rows] + torch.randn(n, BOX, BOX, generator=draw)
        if junk:
            images[:junk] = torch.randn(junk, BOX, BOX, generator=draw)
        grid = ImageGrid.whole(BOX, PIXEL)
        settings = dict(
            limit=9.0, split=4.0, first_limit=4.0, n_starts=1, n_repeats=1, most_passes=8
        )
        how = HeteroSettings(
            **dict(grid=grid, group=point_group("C1"), n_classes=2) | settings | changes
        )
        particles = world.blind.replace(half=rows % 2)
        spectra = Spectra(images, particles, grid, torch.ones(1, 13), unlimited(BOX), how.limit)
        begun = torch.stack([low_pass(volume, PIXEL, 36.0) for volume in both])
        begun = begun.mean(0, keepdim=True) if maps == 1 else begun
        task = Task(spectra, rows, begun, lambda maps, limit: sphere, 2.0, bool(junk))
        return Searched(both, state, truth.rotation, task, how)

    return states
