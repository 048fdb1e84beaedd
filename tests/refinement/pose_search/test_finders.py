"""The ways to find poses are alike to call, and both find them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import from_rotation_vector, rotation_angle
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.pose_search import finders
from cryotorch.refinement.pose_search.finders import RELOCATE, Bound, Climb, Start, shift_extent
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.pose_search.search import prepare_reference
from cryotorch.refinement.runtime.timing import Clock
from cryotorch.refinement.settings import SearchExtent, SearchSettings

SETTINGS = SearchSettings(coarse_limit=7, grid_step=0.25, shift_extent=3.0)
LIMIT, CPU = 9.0, torch.device("cpu")


@pytest.fixture
def world(simulate: Callable):
    return simulate(24, 30.0, symmetry="D2")


def look(world, finder, start: Start, local: bool = False):
    s, rows = world.settings, torch.arange(len(world.truth))
    group = None if local else s.group
    finder.use(prepare_reference(world.volume, LIMIT, SETTINGS, group, torch.float32))
    seen = observe(world.truth, rows, world.images, torch.ones(1, 13), s.grid)
    return finder(seen.limited(half_plane(24).count(LIMIT)), start)


def errors(world, poses) -> tuple[torch.Tensor, torch.Tensor]:
    group = world.settings.group.float()
    turn = rotation_angle(poses.rotation[:, None], world.truth.rotation[:, None] @ group).amin(1)
    return turn.rad2deg(), (poses.shift_px - world.truth.shift / 4.0).norm(dim=1)


@pytest.mark.parametrize("kind", [Climb, Bound])
def test_poses_are_found_from_nothing(world, kind: type) -> None:
    clock = Clock(CPU)
    finder = kind(SETTINGS, clock, *([None] if kind is Bound else []))
    poses, pruning = look(world, finder, Start(None, torch.zeros(24, 2), None, None))
    turn, move = errors(world, poses)
    assert turn.max() < 1.7 and move.median() < 0.03
    assert set(clock.seconds) == ({"coarse", "polish"} if kind is Climb else {"bound"})
    assert (pruning is None) == (kind is Climb)
    if pruning is not None:
        assert pruning.images == 24


@pytest.mark.parametrize("kind", [Climb, Bound])
def test_a_tether_holds_poses_near_where_they_were(world, kind: type) -> None:
    """Starts 0.3 rad off with a reach of 0.1: they end at its border."""
    truth, shift = world.truth.rotation, world.truth.shift / 4.0
    off = from_rotation_vector(torch.tensor([[0.3, 0.0, 0.0]]).expand(24, -1)) @ truth
    extent = SearchExtent((0.0, 0.0, 0.0), 0.1, 1.0)
    finder = kind(SETTINGS, Clock(CPU), *([extent] if kind is Bound else []))
    poses, _ = look(
        world, finder, Start(off, shift, PosePrior(off, shift, extent), None), local=True
    )
    assert rotation_angle(poses.rotation, off).max() < 0.101
    assert rotation_angle(poses.rotation, truth).median() < 0.25
    assert (poses.shift_px - shift).norm(dim=1).max() < 1.01


def test_only_unsettled_particles_are_searched_for(world, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others climb from where they are: far off they stay so; rows come back in order."""
    searched = []
    coarse = finders.coarse_candidates
    monkeypatch.setattr(
        finders, "coarse_candidates", lambda *a: searched.append(len(a[3])) or coarse(*a)
    )
    far = from_rotation_vector(torch.tensor([[1.5, 0.4, 0.0]]).expand(24, -1))
    start, shift = far @ world.truth.rotation, world.truth.shift / 4.0
    stable = torch.arange(24) % 3 == 0
    start[stable] = world.truth.rotation[stable]
    poses, _ = look(world, Climb(SETTINGS, Clock(CPU)), Start(start, shift, None, stable))
    assert searched == [16]
    turn, _ = errors(world, poses)
    assert turn[stable].max() < 3 and turn[~stable].median() < 3
    both = look(world, Climb(SETTINGS, Clock(CPU)), Start(start, shift, None, stable | True))[0]
    assert searched == [16] and errors(world, both)[0][~stable].median() > 20


def test_later_searches_look_near_the_last_centre() -> None:
    nothing = Start(None, torch.zeros(1, 2), None, None)
    known = nothing._replace(rotation=torch.eye(3)[None])
    assert (shift_extent(nothing, SETTINGS), shift_extent(known, SETTINGS)) == (3.0, RELOCATE)
