"""The M-step's mathematics: the sums of all ranks, in one frame and symmetric, solved for half maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.fourier.reconstruct import (
    Sums,
    collect,
    shell_mean_weight,
    solve_lightly,
)
from cryotorch.ops.fourier.slices import merge_
from cryotorch.ops.fourier.symmetrise import symmetrise_
from cryotorch.refinement.em import finite, hands, symmetry_check
from cryotorch.refinement.em.expectation import EStepResult, Expectation


class Solved(NamedTuple):
    """Half maps (2, d, d, d) without a filter, and the ``sums`` and their mean ``weight`` per shell (d // 2 + 1,) that they were solved from."""

    half_maps: Tensor
    sums: list[Sums]
    weight: list[Tensor]


def gather(
    expectation: Expectation, reduce: Callable[[list[Tensor]], None], name: Callable[[int], str]
) -> EStepResult:
    """What the E-steps of all ranks found; the sums of ``expectation`` are those of all ranks too.

    Raises:
        InputError: an image, by its ``name``, or a sum is not finite.
    """
    sums = [merge_(a) for a in expectation.sums]
    reduce(sums + expectation.result.tensors())
    e_step = expectation.result.cpu()
    finite.check_images(e_step, name)
    finite.check_sums(sums)
    return e_step


def in_one_frame(
    expectation: Expectation, e_step: EStepResult
) -> tuple[EStepResult, list[Sums], list[Finding]]:
    """The sums averaged over the point group, both half sets in one hand; what there is to say about it."""
    state, settings, inserted = expectation.state, expectation.settings, expectation.insertion_limit
    halves = [collect(a, inserted) for a in expectation.sums]
    notes = symmetry_check.check_symmetry(state, halves, settings, inserted)
    halves = [symmetrise_(half, settings.group) for half in halves]
    carried = hands.align_frames(state, e_step, halves, settings, inserted)
    if carried is None:
        return e_step, halves, notes
    note = remark("frames_changed", changes=carried.notes)
    return carried.e_step, carried.halves, [*notes, note]


def solve(halves: list[Sums], box: int) -> Solved:
    """Half maps from their normal equations, with hardly a prior, for the FSC."""
    weight = [shell_mean_weight(half) for half in halves]
    half_maps = weight[0].new_empty(2, *(box,) * 3, dtype=torch.float32)
    for out, half, mean in zip(half_maps, halves, weight, strict=True):
        out.copy_(solve_lightly(half, mean))
    return Solved(half_maps, halves, weight)
