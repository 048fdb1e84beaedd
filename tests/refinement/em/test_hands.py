"""Half maps that end in different hands or frames are brought together; those that agree, or say nothing, are left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cryotorch.findings import Finding, codes
from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.reconstruct import collect, solve
from cryotorch.ops.fourier.slices import merge_
from cryotorch.ops.fourier.symmetrise import symmetrise
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations, rotation_angle
from cryotorch.ops.geometry.symmetry import point_group, symmetrise_volume
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.em import hands
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.hands import Frame, align_frames, compare, frames, judge_hands
from cryotorch.refinement.em.iteration import expect, maximize
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import ScheduleSettings
from cryotorch.refinement.state import State
from cryotorch.report.sentences import say
from cryotorch.results import IterationResult

CPU = torch.device("cpu")
IDENTITY = torch.eye(3, dtype=torch.float64)


ALONE = Ranks()


def with_frame(world, frame: Frame) -> tuple[State, Expectation]:
    """A state whose half set B was found in another frame than half set A, and the E-step that ends there."""
    references = torch.stack([world.volume, frame.map(world.volume)])
    state = State(
        world.blind, references, torch.full((2, 1, world.settings.box // 2 + 1), 0.7), 9.0
    )
    expectation = Expectation(state, world.settings, CPU)
    batches = world.batches()
    for number in range(len(batches)):
        expect(expectation, batches[number])
    return state, expectation


def changes(result: IterationResult) -> tuple[Finding, ...]:
    """What was done to the frames of the half sets."""
    told = [m["changes"] for m in result.messages if m.code == "frames_changed"]
    return told[0] if told else ()


def apart(found: Tensor, truth: Tensor, group: Tensor) -> Tensor:
    """Degrees between rotations, modulo symmetry."""
    angles = [rotation_angle(found, truth @ g.float()) for g in group]
    return torch.stack(angles).amin(0).rad2deg()


@pytest.mark.parametrize("mirrored", [True, False])
def test_poses_and_sums_follow_the_map(mirrored: bool, simulate: Callable) -> None:
    """A map in another frame looks the same at the poses that belong to it, and so do its sums."""
    frame = Frame(point_group("D4")[3] @ point_group("C12")[1], mirrored)
    volume = phantom(24, 4.0, point_group("C1"))
    rotation, shift, ctf = random_rotations(5), torch.zeros(5, 2), torch.ones(5, 1)
    scale, inside = torch.ones(5), half_plane(24).radius < 8
    ctf = ctf.expand(-1, len(inside))
    first = project(volume, rotation, shift, ctf, scale)[:, inside]
    second = project(frame.map(volume), frame.poses(rotation), shift, ctf, scale)[:, inside]
    error = (first - second).abs().square().sum() / first.abs().square().sum()
    assert error < (1e-4 if mirrored and torch.equal(frame.turn, IDENTITY) else 0.02)
    world = simulate(80, None, symmetry="C1")
    _, expectation = with_frame(world, Frame(IDENTITY, False))
    merge_(expectation.sums[0])
    sums = collect(expectation.sums[0])
    prior = torch.full((13,), 0.05 * float(sums.weight.mean()))
    moved, expected = solve(frame.sums(sums), prior), frame.map(solve(sums, prior))
    assert shell_correlation(moved, expected)[1:7].min() > 0.9


@pytest.mark.parametrize(
    "symmetry, which", [("I", 0), ("O", 0), ("D3", 0), ("D3", 1), ("D3", 2), ("D2", 7)]
)
def test_a_half_set_in_another_frame_is_carried_over(
    symmetry: str, which: int, simulate: Callable
) -> None:
    box = 40 if symmetry == "I" else 24  # the features that tell its hand are small
    world = simulate(60, 4.0, box=box, symmetry=symmetry, split=4.0)
    group, frame = world.settings.group, frames(point_group(symmetry))[which]
    state, expectation = with_frame(world, frame)
    references = torch.stack([world.volume] * 2)
    state.references = references  # what says which of the two is moved
    result = maximize(expectation, ALONE)
    assert [c["half"] for c in changes(result)] == ["B"], result.messages
    mask = soft_sphere(box, box / 3, 3)
    curve = shell_correlation(*(result.half_maps * mask))
    assert curve[1:9].min() > 0.9
    truth = shell_correlation(result.half_maps[1] * mask, world.volume * mask)
    assert truth[1:9].min() > 0.8
    error = apart(state.particles.rotation, world.truth.rotation, group)
    half_b = state.particles.half == 1
    assert error[half_b].median() < 4 and error[~half_b].median() < 4
    assert (state.stable_iterations[half_b] == 0).all()
    # what the E-step left is as it was: a second attempt, after memory had run out, finds the same
    fresh, halves = State(world.blind, references, state.noise, 9.0), expectation.sums
    halves = {h: symmetrise(collect(half), group) for h, half in halves.items()}
    again = align_frames(fresh, expectation.result, halves, world.settings, box / 2, ALONE)
    assert again is not None


@pytest.mark.parametrize("symmetry", ["O", "D3"])
def test_the_initial_map_as_given_decides_the_frame(symmetry: str, simulate: Callable) -> None:
    """Both half sets were found in the mirror image of a map whose hand lies in shells that the first iteration did not see."""
    world = simulate(60, 4.0, symmetry=symmetry, split=4.0, schedule=ScheduleSettings(3.0, 11.0))
    state, expectation = with_frame(world, Frame(IDENTITY, False))
    state.initial_map = Frame(IDENTITY, True).map(world.volume)
    result = maximize(expectation, ALONE)
    assert "both_half_sets_moved" in codes(changes(result)), result.messages
    mask = soft_sphere(24, 8, 3)
    for half in result.half_maps:
        assert shell_correlation(half * mask, state.initial_map * mask)[1:9].min() > 0.8
    state, expectation = with_frame(world, Frame(IDENTITY, False))
    noise = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(1))
    for given in (world.volume, noise):
        state.initial_map = given
        result = maximize(expectation, ALONE)
        assert not changes(result), result.messages


@pytest.mark.parametrize(
    "symmetry, errors, moved",
    [("I", 3.1, True), ("I", 2.9, False), ("D2", 3.1, False), ("D2", 3.8, True)],
)
def test_doubt_moves_a_half_set_as_soon_as_noise_would_not(
    symmetry: str, errors: float, moved: bool, simulate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Icosahedral half sets that part at 3.6 errors lose in the next iteration what tells their hands, and never find together."""
    world = simulate(60, 4.0, symmetry=symmetry, split=4.0)
    _, expectation = with_frame(world, Frame(IDENTITY, False))
    monkeypatch.setattr(hands, "compare", lambda *_: SimpleNamespace(doubt=-errors))
    result = maximize(expectation, ALONE)
    assert [c.code for c in changes(result)] == ["half_set_moved"] * moved


def test_more_frames_need_more_errors() -> None:
    """The best of n normal numbers is as rarely beyond the limit as one is beyond 3."""
    rare = math.erfc(3 / math.sqrt(2))
    for n in (1, 3, 7, 16):
        several = n * math.erfc(hands.errors_to_move(n) / math.sqrt(2))
        assert 0.7 * rare < several < 1.01 * rare


def test_half_maps_in_one_frame_stay(simulate: Callable) -> None:
    for symmetry in ("I", "D3", "C1", "C2"):
        world = simulate(60, 4.0, symmetry=symmetry, split=4.0)
        _, expectation = with_frame(world, Frame(IDENTITY, False))
        result = maximize(expectation, ALONE)
        assert not changes(result)


def test_noise_has_no_frame() -> None:
    """The doubt of half maps that share nothing is that of a normal variable."""
    sphere = soft_sphere(24, 8, 2)
    part = float(sphere.square().mean()) ** 2 / float(sphere.pow(4).mean())
    radius = 24 * (0.75 / math.pi * part) ** (1 / 3)
    for name in ("I", "D3"):
        group, doubts = point_group(name), []
        for seed in range(12):
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(2, 24, 24, 24, generator=generator)
            pair = [symmetrise_volume(v, group) * sphere for v in noise]
            place = group, radius, 3
            doubts += [compare(*pair, f, *place).doubt for f in frames(group)]
        doubts = torch.tensor(doubts)
        least = (
            0.0 if name == "I" else 0.2
        )  # odd icosahedral noise is no more than one number here, which says nothing
        assert least <= float(doubts.square().mean().sqrt()) < 2 and doubts.abs().max() < 3


@pytest.mark.parametrize("first, code", [(3.0, "hand_unknown"), (9.0, "hand_put_in")])
def test_the_end_names_what_decides_the_hand(first: float, code: str, simulate: Callable) -> None:
    schedule = ScheduleSettings(first, 11.0)
    world = simulate(8, None, symmetry="D3", split=4.0, schedule=schedule)
    noise = torch.randn(2, 24, 24, 24, generator=torch.Generator().manual_seed(1))
    state = State(world.blind, world.volume.expand(2, -1, -1, -1), torch.ones(2, 1, 13), 9.0)
    maps = world.volume + 0.1 * world.volume.std() * noise
    assert codes(judge_hands(state, maps, world.settings, 12.0)) == [code]
    state.initial_map = world.volume
    assert judge_hands(state, maps, world.settings, 12.0)[0].code.startswith("hand_")
    assert "that of the initial map" in say(judge_hands(state, maps, world.settings, 12.0)[0])
    opposite = torch.stack([maps[0], Frame(IDENTITY, True).map(maps[1])])
    (warning,) = judge_hands(state, opposite, world.settings, 12.0)
    assert warning.code == "hands_differ" and warning.serious
    assert codes(judge_hands(state, noise, world.settings, 12.0)) == ["too_coarse_for_hand"]
    open_frame = replace(world.settings, group=point_group("C3"))
    assert judge_hands(state, maps, open_frame, 12.0) == []
