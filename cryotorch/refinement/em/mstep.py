"""The M-step's mathematics: the sums of all ranks, in one frame and symmetric, solved for half maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.fourier.reconstruct import Halves, collect, shell_mean_weight, solve_lightly
from cryotorch.ops.fourier.slices import merge_
from cryotorch.ops.fourier.symmetrise import symmetrise_
from cryotorch.refinement.em import finite, hands, symmetry_check
from cryotorch.refinement.em.expectation import EStepResult, Expectation
from cryotorch.refinement.runtime.ranks import Ranks


class Solved(NamedTuple):
    """Half maps (2, d, d, d) without a filter, and the ``sums``, where they are, and their mean ``weight`` per shell (d // 2 + 1,) that they were solved from."""

    half_maps: Tensor
    sums: Halves
    weight: list[Tensor]


def gather(expectation: Expectation, ranks: Ranks, name: Callable[[int], str]) -> EStepResult:
    """What the E-steps of all ranks found; ``expectation`` has the sums of all ranks of the half sets that this one owns, and no others.

    Raises:
        InputError: an image, by its ``name``, or a sum is not finite.
    """
    sums = {half: merge_(inserted) for half, inserted in expectation.sums.items()}
    ranks.gather_halves(sums, expectation.filled)
    expectation.sums = {half: expectation.sums[half] for half in sums}
    ranks.add_up(expectation.result.tensors())
    e_step = expectation.result.cpu()
    finite.check_images(e_step, name)
    finite.check_sums(sums, ranks)
    return e_step


def in_one_frame(
    expectation: Expectation, e_step: EStepResult, ranks: Ranks
) -> tuple[EStepResult, Halves, list[Finding]]:
    """The sums that are here averaged over the point group, both half sets in one hand; what there is to say about it."""
    state, settings, inserted = expectation.state, expectation.settings, expectation.insertion_limit
    halves = {h: ranks.here(partial(collect, a, inserted)) for h, a in expectation.sums.items()}
    notes = symmetry_check.check_symmetry(state, halves, settings, inserted, ranks)
    halves = {h: symmetrise_(half, settings.group) for h, half in halves.items()}
    carried = hands.align_frames(state, e_step, halves, settings, inserted, ranks)
    if carried is None:
        return e_step, halves, notes
    note = remark("frames_changed", changes=carried.notes)
    return carried.e_step, carried.halves, [*notes, note]


def solve(halves: Halves, ranks: Ranks) -> Solved:
    """Half maps from their normal equations, with hardly a prior, for the FSC."""

    def half_map(half: int) -> tuple[Tensor, Tensor]:
        mean = shell_mean_weight(halves[half])
        return solve_lightly(halves[half], mean), mean

    made = ranks.each([partial(half_map, half) for half in (0, 1)], ranks.owners)
    half_maps, weight = zip(*made, strict=True)
    return Solved(torch.stack(half_maps), halves, list(weight))
