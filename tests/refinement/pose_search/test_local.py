"""Iterations of a local refinement: half sets stay apart, centres move when asked to, the other regulariser and search take part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryotorch.findings import Finding
from cryotorch.ops.fourier.slices import (
    extract_slices,
    gridding_correction,
    insert_slices_,
    projector,
)
from cryotorch.ops.fourier.transforms import fft_volume, half_plane, volume_shells
from cryotorch.ops.geometry.rotations import from_rotation_vector, rotation_angle
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.em import regularise
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.initialise import initialise_state
from cryotorch.refinement.em.iteration import expect, maximize
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import (
    LocalSettings,
    MaskSettings,
    NonUniformSettings,
    ScheduleSettings,
    SearchExtent,
)
from cryotorch.report.sentences import say
from cryotorch.results import Departures

REACH = SearchExtent((2.0, 0.0, -1.0), math.radians(15), 1.5)
MASK = soft_sphere(24, 7, 4)
LOCAL = LocalSettings(REACH, subtract=True)


ALONE = Ranks()


def local_world(simulate: Callable, local: LocalSettings = LOCAL, **changes):
    """Particles that start a few degrees from the truth."""
    world = simulate(80, 4.0)
    settings = replace(
        world.settings,
        mask=MaskSettings("static", user_mask=MASK, fsc_mask=MASK),
        local=local,
        schedule=ScheduleSettings(first_limit=9.0, highest_limit=11.0, max_iterations=3),
        **changes,
    )
    generator = torch.Generator().manual_seed(3)
    turn = 0.08 * torch.randn(80, 3, generator=generator)
    start = world.truth.replace(
        rotation=from_rotation_vector(turn) @ world.truth.rotation, scale=torch.ones(80)
    )
    world = replace(world, settings=settings)
    halves = world.volume + 0.02 * torch.randn(2, 24, 24, 24, generator=generator)
    with torch.no_grad():
        state, notes = initialise_state(
            start, halves, world.batches(), settings, 9.0, torch.device("cpu")
        )
    return world, start, state, notes


def e_step(world, state) -> Expectation:
    expectation = Expectation(state, world.settings, torch.device("cpu"))
    batches = world.batches()
    for number in range(len(batches)):
        expect(expectation, batches[number])
    return expectation


def test_iterations_come_nearer_and_never_leave_extents_or_half_sets(simulate: Callable) -> None:
    world, start, state, notes = local_world(simulate)
    assert notes[0].code == "grey_scale" and notes[0]["match"] is None
    assert torch.equal(state.references[0] * (MASK == 0), torch.zeros(24, 24, 24))
    for _ in range(2):
        result = maximize(e_step(world, state), ALONE)
        assert torch.equal(result.particles.half, start.half)
        moved = result.departures
        assert moved.rotation.max() <= 15.01 and moved.shift.max() <= 1.5 * 4 + 0.01
    before, after = (
        rotation_angle(r, world.truth.rotation).rad2deg().median()
        for r in (start.rotation, result.particles.rotation)
    )
    assert after < 0.7 * before
    assert torch.equal(state.centre_rotation, start.rotation)  # nobody asked to recentre
    torch.testing.assert_close(result.mask_fsc, MASK)


def test_references_above_the_split_come_from_their_own_half(
    simulate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Add something else to what half B has seen: half A's reference changes below the split shell only."""
    monkeypatch.setattr(regularise, "local_wiener", lambda volume, *_: volume)
    frequency, spectra = half_plane(24).frequency, []
    for change in (0.0, 100.0):
        world, _, state, _ = local_world(simulate)
        assert 3 < world.settings.split < 8
        expectation = e_step(world, state)
        other = extract_slices(projector(world.volume.flip(0)), world.truth.rotation, frequency)
        weight = torch.full(other.shape, change)
        insert_slices_(expectation.sums[1], change * other, weight, world.truth.rotation, frequency)
        # masks mix shells: look at the maps before them
        monkeypatch.setattr(
            "cryotorch.refinement.em.reference_mask._reference_mask", lambda *_: torch.tensor(1.0)
        )
        maximize(expectation, ALONE)
        spectra.append(fft_volume(state.references * gridding_correction(24, 24)))
        monkeypatch.undo()
        monkeypatch.setattr(regularise, "local_wiener", lambda volume, *_: volume)
    moved, size = (spectra[1] - spectra[0]).abs(), spectra[0].abs()
    shell = volume_shells(24)
    above, below = (
        (shell > world.settings.split) & (shell < 12),
        (shell < world.settings.split - 1) & (shell > 0),
    )
    assert moved[0][above].mean() < 1e-4 * size[0][above].mean()
    assert moved[0][below].mean() > 0.1 * size[0][below].mean()
    assert moved[1][above].mean() > 0.1 * size[1][above].mean()


@pytest.mark.parametrize(("turn", "move"), [(True, False), (False, True), (True, True)])
def test_centres_follow_the_poses_when_asked(simulate: Callable, turn: bool, move: bool) -> None:
    world, start, state, _ = local_world(simulate, LocalSettings(REACH, turn, move))
    result = maximize(e_step(world, state), ALONE)
    now, pixel = result.particles, world.settings.pixel_size
    assert torch.equal(state.centre_rotation, now.rotation if turn else start.rotation)
    held = PosePrior(state.centre_rotation, state.centre_shift / pixel, REACH)
    w, d = held.relative(now.rotation, now.shift / pixel)
    first = PosePrior(start.rotation, start.shift / pixel, REACH).relative(
        now.rotation, now.shift / pixel
    )
    if turn:
        assert w.abs().max() < 1e-3
    # what is not followed keeps its distance
    torch.testing.assert_close(d, torch.zeros_like(d) if move else first[1], atol=1e-3, rtol=0)


def test_branch_and_bound_takes_the_place_of_newton(simulate: Callable) -> None:
    poses = {}
    for method in ("newton", "branch_and_bound"):
        world, *_ = local_world(simulate)
        settings = replace(world.settings, search=replace(world.settings.search, method=method))
        world, _, state, _ = local_world(simulate, search=settings.search)
        result = maximize(e_step(world, state), ALONE)
        poses[method] = result.particles.rotation
    (found,) = [m for m in result.messages if m.code == "pruning"]
    assert found["evaluations"] > 1 and "evaluations per particle" in say(found)
    assert rotation_angle(*poses.values()).rad2deg().median() < 0.3


def test_the_nonuniform_regulariser_filters_all_maps_alike(simulate: Callable) -> None:
    world, _, state, _ = local_world(simulate, nonuniform=NonUniformSettings())
    result = maximize(e_step(world, state), ALONE)
    inside, far = MASK > 0.9, soft_sphere(24, 11, 0) * (soft_sphere(24, 10, 0) == 0) > 0
    assert result.cutoff[inside].median() < result.cutoff[far].median()
    assert 8 - 0.01 <= result.cutoff.min() and result.cutoff.max() <= 24.01
    curve = shell_correlation(result.map * MASK, world.volume * MASK)
    assert curve[1:9].min() > 0.7


def test_particles_that_stop_at_an_extent_are_told() -> None:
    turned, moved = torch.tensor([20.0, 19.9, 3.0, 20.0]), torch.tensor([1.0, 2.0, 10.0, 0.0])
    start = torch.eye(3).repeat(4, 1, 1)
    (warning,) = Departures(start, turned, moved, 20.0, 10.0).warnings()
    assert warning == Finding("poses_at_extent", share=0.75, extent="rotation")
    assert Departures(start, turned / 2, moved, 20.0, 10.0).warnings() == []
    assert Departures(start, 0 * turned, 0 * moved, 0.0, 0.0).warnings() == []
