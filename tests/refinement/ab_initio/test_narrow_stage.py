"""The narrow stage: noise, poses against the truth, and classes that compete."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.ab_initio.narrow_stage import (
    Narrow,
    NarrowPart,
    limit_of,
    next_pass,
    search_all,
)
from cryotorch.refinement.class_search import ClassSearch
from cryotorch.refinement.runtime.team import Team

C1 = point_group("C1")


def test_limits_grow_to_the_last(begin: Callable) -> None:
    settings = begin(20, passes=3).settings
    limits = [limit_of(settings, number) for number in range(3)]
    assert limits[0] == pytest.approx(settings.soft_limit)
    assert limits[2] == pytest.approx(settings.last_limit)
    assert limits[1] == pytest.approx((limits[0] * limits[2]) ** 0.5)


def test_poses_are_those_of_the_truth(begin: Callable) -> None:
    world = begin(100, snr=1.0)
    search = ClassSearch(world.volume[None], 8.0, C1, world.settings.shift_extent)
    found, before, residual = search_all(search, torch.ones(1), world.images)
    angle = torch.rad2deg(rotation_angle(found.rotation, world.rotation))
    assert float(angle.median()) < 4
    assert before.rotation.shape == (100, 1, 3, 3) and float(found.correlation.median()) > 0.5
    # the noise has variance 1
    assert float(residual.mean()) == pytest.approx(1, abs=0.1)
    again, _, _ = search_all(search, torch.ones(1), world.images, before)
    angle = torch.rad2deg(rotation_angle(again.rotation, world.rotation))
    assert float(angle.median()) < 4


def test_images_go_to_the_class_they_are_of(begin: Callable) -> None:
    world = begin(100, snr=0.5)
    other = flip_hand(world.volume).transpose(0, 2)
    maps = torch.stack([other.roll(2, 0) * 0.5, world.volume])
    share = torch.tensor([0.5, 0.5])
    search = ClassSearch(maps, 8.0, C1, world.settings.shift_extent)
    found, _, _ = search_all(search, share, world.images)
    assert float((found.best == 1).float().mean()) > 0.97
    torch.testing.assert_close(found.share.sum(1), torch.ones(100))


def test_a_pass_from_the_truth_stays_there(begin: Callable) -> None:
    world = begin(300, snr=0.5, passes=2)
    part = NarrowPart(world.images, world.group, world.settings, Team())
    state = Narrow.begun(world.volume[None], torch.ones(1), 1)
    for _ in range(2):
        state = next_pass(part, state)
    curve = shell_correlation(state.maps[0], world.volume)
    assert float(curve[1:7].min()) > 0.9 and state.passes == 2
    # the images had noise of 1 and are told so
    assert float(state.noise[0, 2:8].mean()) == pytest.approx(1, abs=0.1)
