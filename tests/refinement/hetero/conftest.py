"""Images of two states of a molecule, and a task for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.refinement.hetero.pipeline import Task
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.image_terms import transfer
from cryotorch.refinement.image_weight import unlimited
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.spectra import Spectra

BOX, PIXEL = 24, 6.0


@dataclass
class States:
    """What images show, state (n,) of maps (2, d, d, d), and what is to be done with them."""

    maps: Tensor
    state: Tensor
    rotation: Tensor
    task: Task
    settings: HeteroSettings


@pytest.fixture
def states(simulate: Callable) -> Callable[..., States]:
    """states(n, snr, part, ...): in ``part`` of the images a molecule lacks all on one side; maps: how many to begin with; others are settings."""

    def states(
        n: int = 300, snr: float = 1.0, part: float = 0.4, maps: int = 1, junk: int = 0, **changes
    ) -> States:
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
        return States(both, state, truth.rotation, task, how)

    return states
