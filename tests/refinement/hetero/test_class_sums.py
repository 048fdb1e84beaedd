"""Sums of classes and half sets, and the maps that they make."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.hetero.class_sums import ClassHalves, ClassSums
from cryotorch.refinement.hetero.fixed_poses import insert


def sums_of(world, share: Tensor, symmetry: str = "C1") -> ClassHalves:
    settings = world.settings
    sums = ClassSums(24, share.shape[1], settings.limit, point_group(symmetry))
    inserted = sums.new(torch.device("cpu"))
    insert(world.images, share, inserted)
    sums.take(inserted)
    return sums.halves()


@pytest.fixture
def world(two_states: Callable):
    return two_states(400, snr=50.0)


def test_each_class_has_its_own_map(world) -> None:
    halves = sums_of(world, torch.nn.functional.one_hot(world.state, 2).float())
    assert halves.classes.shape == (2, 2, 24, 24, 24) and halves.joint.shape == (2, 24, 24, 24)
    for half in halves.classes:
        for k in (0, 1):
            assert float(shell_correlation(half[k], world.maps[k])[1:8].min()) > 0.98
            other = float(shell_correlation(half[k], world.maps[1 - k])[2:8].mean())
            assert other < 0.9
    pooled = 0.6 * world.maps[0] + 0.4 * world.maps[1]
    assert float(shell_correlation(halves.joint_pooled, pooled)[1:8].min()) > 0.98


def test_what_classes_have_in_part_adds_up(world) -> None:
    """Soft shares: all classes together are the pooled map, and the weights add up to those of all images."""
    draw = torch.Generator().manual_seed(0)
    share = torch.rand(400, 3, generator=draw).softmax(1)
    soft, whole = sums_of(world, share), sums_of(world, torch.ones(400, 1))
    torch.testing.assert_close(soft.joint_pooled, whole.joint_pooled, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(soft.weight.sum(1), whole.weight.sum(1), rtol=1e-4, atol=1e-3)
    # all that images weigh, per voxel of a shell
    plane = torch.bincount(_shell(world.images)).double()
    expected = world.images.weight.double().sum(0)
    by_shell = torch.zeros(len(plane), dtype=torch.float64).index_add_(
        0, _shell(world.images), expected
    )
    voxels = 2 * torch.pi * torch.arange(len(plane)).double() ** 2
    found = whole.weight.sum((0, 1))[: len(plane)].double()
    assert float((found / (by_shell / voxels))[2:9].mean()) == pytest.approx(1, abs=0.08)


def _shell(images) -> Tensor:
    return half_plane(images.box).shell[: images.weight.shape[1]]


def test_small_shares_are_left_out_and_an_empty_class_is_that_of_all(world) -> None:
    share = torch.tensor([[0.995, 0.005]]).expand(400, 2)
    halves = sums_of(world, share)
    assert float(halves.weight[:, 1].abs().max()) == 0
    assert torch.equal(halves.classes[:, 1], halves.pooled)
    assert torch.equal(halves.joint[1], halves.joint_pooled)


def test_the_symmetry_is_imposed(world) -> None:
    halves = sums_of(world, torch.ones(400, 1), "C4")
    volume = halves.joint_pooled
    turned = volume.flip(1).transpose(1, 2).roll(1, 1)  # about z by 90 degrees, pixel d // 2 stays
    either = [
        float(shell_correlation(volume, one)[1:8].min())
        for one in (turned, volume.transpose(1, 2).flip(2).roll(1, 2))
    ]
    assert max(either) > 0.98
    plain = sums_of(world, torch.ones(400, 1))
    torch.testing.assert_close(halves.weight, 4 * plain.weight)
