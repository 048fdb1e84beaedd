"""The last door: numbers that are not finite end an iteration, with the image or the map they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.refinement.em.expectation import EStepResult
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.state import State

NAMED = 3  # images, in a message


def check_images(e_step: EStepResult, name: Callable[[int], str]) -> None:
    """Of what an E-step learnt, after the reduction.

    Raises:
        InputError: rows of ``e_step`` that are not finite, by the ``name`` of their images.
    """
    parts = (e_step.rotation, e_step.shift, e_step.sigma, e_step.cross, e_step.power, e_step.ratio)
    sound = torch.stack([part.flatten(1).isfinite().all(1) for part in map(_two, parts)]).all(0)
    rows = torch.nonzero(~sound)[:, 0].tolist()
    if rows:
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        raise InputError(
            f"{', '.join(map(name, rows[:NAMED]))}{more} gave values that are not finite: look at the image and its CTF, or remove it "
            "from the particle file"
        )


def check_sums(sums: Mapping[int, Tensor], ranks: Ranks) -> None:
    """Of the sums of half set A and B, any shape, where they are.

    Raises:
        InputError: a sum is not finite.
    """
    finite = ranks.each([lambda h=h: sums[h].sum().isfinite() for h in (0, 1)], ranks.owners)
    for half, sound in zip("AB", torch.stack(finite).tolist(), strict=True):
        if not sound:
            raise InputError(
                f"the map of half set {half} is not finite: the grey values of images or initial map are too large, bring them to about 1"
            )


def check_state(state: State) -> None:
    """Of what the next iteration starts from.

    Raises:
        InputError: references, noise or scales are not finite.
    """
    for what, value in (
        ("reference", state.references),
        ("noise level", state.noise),
        ("scale of a particle", state.particles.scale),
    ):
        if not bool(value.sum().isfinite()):
            raise InputError(
                f"after iteration {state.iteration} the {what} is not finite: look at the maps of the iteration before, and at the "
                "grey values of images, initial map and mask"
            )


def _two(values: Tensor) -> Tensor:
    return values if values.dim() > 1 else values[:, None]
