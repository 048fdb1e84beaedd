"""The M-step as the trainer sees it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch


class MapSolve:
    """``step()`` is the M-step. To the trainer it is an optimizer, so that it counts, logs and saves one step per iteration."""

    def __init__(self, solve_step: Callable[[], None]) -> None:
        self.solve_step = solve_step
        self.param_groups: list[dict] = []
        self.defaults: dict = {}
        self.state: defaultdict = defaultdict(dict)

    def state_dict(self) -> dict:
        """Nothing: the state of a refinement is in ``State``."""
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        """Nothing to take from it."""

    @torch.no_grad()
    def step(self, closure=None):
        """Turn the accumulated sums into new maps."""
        loss = None if closure is None else closure()
        self.solve_step()
        return loss
