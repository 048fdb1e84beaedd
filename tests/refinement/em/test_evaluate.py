"""What half maps are worth, and which mask says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cryotorch.findings import codes
from cryotorch.ops.fourier.filters import low_pass, radial_amplitude
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.refinement.em.evaluate import evaluate, for_the_eye, keep_score
from cryotorch.refinement.em.iteration import maximize
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import MaskSettings


def test_no_resolution_is_claimed_where_nothing_was_inserted(
    simulate: Callable, start: Callable, e_step: Callable, alone: Ranks
) -> None:
    world = simulate(200, 4.0)
    state = start(world)
    state.references = torch.stack([low_pass(world.volume, 4.0, 24.0)] * 2)
    state.max_shell = 4.0
    expectation = e_step(world, state)
    expectation.insertion_limit = 6.2
    result = maximize(expectation, alone)
    # shell 6 is too near to the split of 4.8 shells to testify
    assert math.isnan(result.resolution) and all(map(math.isnan, result.resolutions.values()))
    for curve in result.curves.values():
        assert curve[6:].tolist() == [0] * 7 and (curve[1:6] != 0).all()


BALL = soft_sphere(24, 6, 2)


def half_maps() -> torch.Tensor:
    """A ball with detail, in little noise of each half's own."""
    draw = torch.Generator().manual_seed(2)
    detail = 1 + 0.5 * torch.randn(24, 24, 24, generator=draw)
    return BALL * detail + 0.05 * torch.randn(2, 24, 24, 24, generator=draw)


def around() -> torch.Tensor:
    return soft_sphere(24, 10, 1)


def test_the_given_mask_judges(simulate: Callable) -> None:
    given = soft_sphere(24, 7, 3)
    s = simulate(mask=MaskSettings(fsc_mask=given)).settings
    found = evaluate(half_maps(), 12.0, s, around, Ranks())
    assert found.mask is given and found.messages == []


def test_density_makes_the_mask_and_a_sphere_stands_in_where_there_is_none(
    simulate: Callable,
) -> None:
    s = simulate().settings
    mask = evaluate(half_maps(), 12.0, s, around, Ranks()).mask
    assert float(mask[12, 12, 12:18].min()) > 0.99 and float(mask[:2].max()) == 0
    empty = evaluate(half_maps() - 5, 12.0, s, around, Ranks())
    assert torch.equal(empty.mask, around()) and codes(empty.messages) == ["fsc_mask_sphere"]


@pytest.mark.parametrize("starts", [True, False])
def test_the_corrected_curve_leads_once_a_mask_means_something(
    simulate: Callable, starts: bool
) -> None:
    s = simulate(mask=MaskSettings(start_resolution=100.0 if starts else 1.0)).settings
    found = evaluate(half_maps(), 12.0, s, around, Ranks())
    assert found.leading is found.judged.curves["corrected" if starts else "spherical"]
    assert torch.equal(found.inside, found.mask if starts else around())
    assert 8 <= found.reached < 12


def test_the_score_of_an_iteration(simulate: Callable, start: Callable) -> None:
    """The crossing of 0.143 between two shells, and the sum of the squared curve with its sign."""
    spherical = torch.tensor([1, 1, 0.5, -0.5, 0, 0])
    judged = SimpleNamespace(curves={"spherical": spherical})
    leading = torch.tensor([1, 0.9, 0.243, 0.043, 0, 0])
    state = start(simulate())
    state.share = 0.25
    keep_score(state, SimpleNamespace(judged=judged, leading=leading))
    assert state.convergence.crossings == pytest.approx([2.5], abs=1e-4)
    assert state.convergence.areas == [2.0] and state.convergence.shares == [0.25]


def test_the_map_for_the_eye_is_sharpened_as_asked_and_filtered_last(simulate: Callable) -> None:
    s, maps = simulate(bfactor=-80.0).settings, half_maps()
    found = evaluate(maps, 12.0, s, around, Ranks())
    sharp = for_the_eye(maps, found, s, lambda volume: volume)
    assert sharp.fit.applied == -80.0
    twice = for_the_eye(maps, found, s, lambda volume: 2 * volume)
    assert torch.equal(twice.map, 2 * sharp.map)
    plain = for_the_eye(maps, found, replace(s, bfactor=0.0), lambda volume: volume)
    shell = 6  # of 96 Å: exp(80 / (4 * 16^2)) = 1.08
    gain = radial_amplitude(sharp.map)[shell] / radial_amplitude(plain.map)[shell]
    assert float(gain) == pytest.approx(math.exp(80 / 4 / 16**2), rel=0.01)
