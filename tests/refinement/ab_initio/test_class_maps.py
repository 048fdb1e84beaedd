"""Running sums: what they forget, where they move, what the halves agree on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.fourier.slices import insert_slices_
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.placement import shift_volume
from cryotorch.ops.geometry.symmetry import point_group, symmetry_correlation
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.ab_initio.class_maps import RunningSums, off_centre


def filled(world, keep: float = 0.0, sums: RunningSums | None = None) -> RunningSums:
    """The sums of all images at their true poses, unshifted."""
    sums = sums or RunningSums(world.settings, torch.device("cpu"))
    images, limit = world.images, world.settings.last_limit
    at = half_plane(24).frequency[: images.spectrum.shape[1]]
    for half in (0, 1):
        rows, into = torch.arange(half, len(world.rotation), 2), sums.new()
        gain = images.gain[rows]
        insert_slices_(into, images.spectrum[rows] * gain, gain**2, world.rotation[rows], at)
        sums.add(0, half, into, limit, keep)
    return sums


@pytest.fixture
def world(begin: Callable):
    return begin(300, snr=1.0)


def test_known_poses_give_the_map_back(world) -> None:
    # shifts are drawn with 1 pixel: without them the map is blurred, so compare coarsely
    maps = filled(world).maps()
    curve = shell_correlation(maps.volumes[0], world.volume)
    assert float(curve[1:5].min()) > 0.9
    assert float(maps.fsc[0, 1:5].min()) > 0.8


def test_what_came_before_is_kept_in_part(world) -> None:
    sums = filled(world)
    once = sums.sums[0][0].weight.clone()
    filled(world, 0.6, sums)
    torch.testing.assert_close(sums.sums[0][0].weight, 1.6 * once)
    filled(world, 0.0, sums)
    torch.testing.assert_close(sums.sums[0][0].weight, once)


def test_maps_and_sums_move_together(world) -> None:
    sums = filled(world)
    before = sums.maps().volumes[0]
    move = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    sums.move(0, move)
    after = sums.maps().volumes[0]
    curve = shell_correlation(shift_volume(before, move), after)
    assert float(curve[1:6].min()) > 0.97


def test_recentring_brings_the_density_to_the_middle(world) -> None:
    sums = filled(world)
    sums.move(0, torch.tensor([3.0, 0.0, -2.0], dtype=torch.float64))
    maps = sums.maps()
    assert float(off_centre(maps.volumes[0]).norm()) > 2
    for _ in range(3):
        maps = sums.recentre(maps)
        maps = sums.maps()
    assert float(off_centre(maps.volumes[0]).norm()) < 0.4


def test_an_empty_map_is_in_the_middle() -> None:
    assert float(off_centre(torch.zeros(8, 8, 8)).norm()) == 0


def test_a_symmetry_is_imposed(world) -> None:
    group = point_group("C4")
    maps = filled(world).maps(group)
    assert float(symmetry_correlation(maps.volumes[0], group).min()) > 0.98
