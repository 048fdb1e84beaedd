"""An iteration, step by step: a state that knows the truth, its E-step, and findings that say nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.refinement.em.expectation import EStepResult, Expectation
from cryotorch.refinement.em.iteration import expect
from cryotorch.refinement.image_weight import unlimited
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.state import State


@pytest.fixture
def nothing_found() -> Callable[..., EStepResult]:
    """nothing_found(n, groups, shells): of n particles, all seen, that have not moved."""

    def nothing_found(n: int, groups: int = 1, shells: int = 13) -> EStepResult:
        return EStepResult(
            rotation=torch.eye(3).repeat(n, 1, 1),
            shift=torch.zeros(n, 2),
            sigma=torch.zeros(n, 2),
            cross=torch.ones(n),
            power=torch.ones(n),
            updated=torch.ones(n),
            certain=torch.ones(n),
            pose_difference=torch.zeros(n, 2),
            ratio=torch.ones(n, len(unlimited(2 * (shells - 1)))),
            misfit=torch.ones(n),
            blank=torch.zeros(n),
            residual=torch.zeros(2, groups, shells, dtype=torch.float64),
            count=torch.zeros(2, groups, shells, dtype=torch.float64),
            pruning=torch.zeros(6, dtype=torch.float64),
        )

    return nothing_found


@pytest.fixture
def start() -> Callable[..., State]:
    """start(world): the state of a run whose references are the truth."""

    def start(world) -> State:
        s, groups = world.settings, len(world.truth.optics.voltage_kv)
        noise = torch.full((2, groups, s.box // 2 + 1), 0.7)
        return State(world.blind, torch.stack([world.volume] * 2), noise, 9.0)

    return start


@pytest.fixture
def e_step() -> Callable[..., Expectation]:
    """e_step(world, state): that of all batches."""

    def e_step(world, state: State) -> Expectation:
        expectation = Expectation(state, world.settings, torch.device("cpu"))
        batches = world.batches()
        for number in range(len(batches)):
            expect(expectation, batches[number])
        return expectation

    return e_step


@pytest.fixture
def alone() -> Ranks:
    """A single process."""
    return Ranks()
