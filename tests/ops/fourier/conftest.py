"""What the tests of compiled loops share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.fourier.transforms import half_plane


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def points(draw: torch.Generator) -> Callable[[str, int], torch.Tensor]:
    """Frequencies of each kind that slices take, of five images in a box."""

    def make(kind: str, box: int) -> torch.Tensor:
        plane = half_plane(box).frequency
        if kind == "shared":
            return plane
        if kind == "deep":
            return torch.cat([plane, 0.5 * torch.randn(len(plane), 1, generator=draw)], 1)
        stretched = plane * (1 + 0.02 * torch.randn(5, 1, 2, generator=draw))
        if kind == "each":
            return stretched
        return torch.cat([stretched, torch.randn(5, len(plane), 1, generator=draw)], 2)

    return make
