"""The grey scale of initial maps: found from images whose own map is known, of several maps at once, and inverted contrast is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.refinement.hetero.grey_scale import grey_scale

C1 = point_group("C1")


@pytest.mark.slow  # a minute
def test_the_scale_of_the_images_is_found(begin: Callable) -> None:
    world = begin(80, snr=1.0)
    found = grey_scale(40 * world.volume[None], world.images, 7.0, C1, 2.0)
    assert float(found.factor[0]) == pytest.approx(1 / 40, rel=0.1)
    assert found.doubt > 5
    inverted = grey_scale(-world.volume[None], world.images, 7.0, C1, 2.0)
    assert inverted.doubt < -5


def test_each_map_has_its_own_and_one_that_nobody_chooses_that_of_the_others(
    begin: Callable,
) -> None:
    world = begin(80, snr=1.0)
    other = world.volume.flip(0).roll(1, 0).transpose(0, 2) * 0.1
    found = grey_scale(torch.stack([5 * world.volume, other]), world.images, 7.0, C1, 2.0)
    assert float(found.factor[0]) == pytest.approx(0.2, rel=0.15)
    std = (5 * world.volume).std() / other.std()
    assert float(found.factor[1]) == pytest.approx(0.2 * float(std), rel=0.5)
