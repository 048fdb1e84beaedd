"""What a local search takes from the images: the rest of the particle, where it was at first."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.pose_search.local_region import LocalRegion
from cryotorch.refinement.settings import SearchExtent

BOX, PIXEL, CPU = 16, 2.0, torch.device("cpu")
REACH = SearchExtent((0.0, 0.0, 0.0), 0.1, 1.0)
DRAW = torch.Generator().manual_seed(1)
REST = torch.randn(2, BOX, BOX, BOX, generator=DRAW) * soft_sphere(BOX, 4, 2)


def start(rest: Tensor | None = REST) -> SimpleNamespace:
    """The state of six particles that are tied to one pose and were found at another one, in Å."""
    draw = torch.Generator().manual_seed(2)
    return SimpleNamespace(
        centre_rotation=random_rotations(6, draw),
        centre_shift=4 * torch.ones(6, 2),
        anchor_rotation=random_rotations(6, draw),
        anchor_shift=3 * torch.randn(6, 2, generator=draw),
        subtracted_reference=rest,
    )


def test_particles_are_tied_to_their_centres() -> None:
    rows = torch.tensor([4, 1])
    tether = LocalRegion(start(), REACH, PIXEL, CPU).prior(rows)
    assert torch.equal(tether.rotation, start().centre_rotation[rows])
    assert tether.shift_px.tolist() == [[2, 2], [2, 2]] and tether.extent is REACH


@pytest.mark.parametrize("half", [0, 1])
def test_images_of_nothing_but_the_rest_are_empty(half: int) -> None:
    """Each half set's rest is subtracted, at the first poses and with the gain of each image."""
    rows, first = torch.tensor([5, 0, 2]), start()
    pose = first.anchor_rotation[rows], first.anchor_shift[rows] / PIXEL
    gain = torch.rand(3, len(half_plane(BOX).shell), generator=DRAW)
    images = [predict(projector(REST[h]), *pose, gain) for h in (0, 1)]
    region = LocalRegion(first, REACH, PIXEL, CPU)
    region.use(half)
    left = [
        region.inside(Observation(y, gain, torch.ones_like(gain), BOX), rows).spectrum
        for y in images
    ]
    assert float(left[half].abs().max()) < 1e-5 * float(images[half].abs().max())
    torch.testing.assert_close(left[1 - half], images[1 - half] - images[half])


def test_without_a_rest_images_are_left_alone() -> None:
    region = LocalRegion(start(rest=None), REACH, PIXEL, CPU)
    region.use(0)
    seen = Observation(torch.ones(1, 4) + 0j, torch.ones(1, 4), torch.ones(1, 4), BOX)
    assert region.inside(seen, torch.tensor([0])) is seen
