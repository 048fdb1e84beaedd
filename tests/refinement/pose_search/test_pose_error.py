"""Standard errors of poses hold the noise of the reference too."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.geometry.rotations import to_rotation_vector
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.initialise import initialise_state
from cryotorch.refinement.em.iteration import expect, maximize
from cryotorch.refinement.pose_search.pose_error import COMPARED_IMAGES, MIN_COMPARED, error_factors
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import ScheduleSettings


def test_half_of_the_difference_is_a_reference_s() -> None:
    generator = torch.Generator().manual_seed(1)
    own, reference = torch.tensor([0.02, 0.3]), torch.tensor([0.03, 0.2])
    turn = math.sqrt(2) * reference[0] * torch.randn(4000, 3, generator=generator)
    move = math.sqrt(2) * reference[1] * torch.randn(4000, 2, generator=generator)
    moved = torch.stack([turn.norm(dim=1), move.norm(dim=1)], 1)
    moved[:100] = 2.0  # some find another pose altogether
    expected = (own**2 + reference**2).sqrt() / own
    assert torch.allclose(error_factors(own.expand(4000, 2), moved), expected, rtol=0.05)


def test_too_few_compared_change_nothing() -> None:
    sigma, moved = torch.ones(100, 2), torch.zeros(100, 2)
    moved[: MIN_COMPARED - 1] = 5.0
    assert error_factors(sigma, moved).tolist() == [1, 1]
    assert error_factors(0 * sigma, torch.ones(100, 2)).tolist() == [1, 1]


@pytest.mark.parametrize("snr", [3.0, 1.0, 0.5])
def test_standard_errors_are_those_against_the_truth(simulate: Callable, snr: float) -> None:
    """Per axis, from medians, within 0.7 to 1.4 at three signal-to-noise ratios."""
    world = simulate(400, snr, box=32, shift_px=0.5)
    schedule = ScheduleSettings(5.0, 14.0, max_iterations=5)
    settings = replace(world.settings, schedule=schedule, split=128 / 40)
    with torch.no_grad():
        start = low_pass(world.volume, 4.0, 24.0)
        state, _ = initialise_state(
            world.blind, start, world.batches(), settings, 24.0, torch.device("cpu")
        )
        while not state.stopped:
            expectation = Expectation(state, settings, torch.device("cpu"))
            batches = world.batches()
            for number in range(len(batches)):
                expect(expectation, batches[number])
            compared = int((expectation.result.pose_difference > 0).all(1).sum())
            result = maximize(expectation, Ranks())
    assert 2 * MIN_COMPARED <= compared <= 2 * COMPARED_IMAGES
    found, truth = result.particles, world.truth
    # in the frame of the map, which may be a little off the truth's
    turn = to_rotation_vector(truth.rotation.mT @ found.rotation)
    turn = (turn - turn.median(0).values).norm(dim=1)
    rows, offset = found.rotation[:, :2], found.shift - truth.shift
    frame = torch.linalg.lstsq(rows.flatten(0, 1), offset.reshape(-1, 1)).solution[:, 0]
    move = (offset - rows @ frame).norm(dim=1)
    # medians of the lengths of Gaussian vectors with three and two axes of one unit
    true = torch.stack([turn.median() / 1.538, move.median() / 1.177])
    told = found.pose_sigma.median(0).values
    raw = state.particles.pose_sigma.median(0).values
    assert ((told / true) > 0.7).all() and ((told / true) < 1.4).all()
    assert (told > 1.03 * raw).all()
