"""To the trainer the M-step is an optimizer."""

from __future__ import annotations

import torch
from lightning.fabric.utilities.types import Optimizable

from cryotorch.refinement.em.map_solve import MapSolve


def test_a_step_is_the_m_step() -> None:
    done: list[bool] = []
    solve = MapSolve(lambda: done.append(torch.is_grad_enabled()))
    assert isinstance(solve, Optimizable)
    assert solve.step(lambda: 3.0) == 3.0 and solve.step() is None
    assert done == [False, False]
    solve.load_state_dict(solve.state_dict())
    assert not solve.param_groups
