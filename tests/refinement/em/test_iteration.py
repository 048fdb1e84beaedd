"""An iteration in whole: the map becomes better, and ranks share the work without a trace."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.slices import (
    merge_,
)
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.iteration import expect, maximize


def test_an_iteration_improves_the_map_and_tells_what_it_did(
    simulate: Callable, start: Callable, e_step: Callable, alone: Callable
) -> None:
    world = simulate(200, 4.0)
    state = start(world)
    state.references = torch.stack([low_pass(world.volume, 4.0, 24.0)] * 2)
    state.max_shell = 4.0
    results = []
    for _ in range(2):
        results.append(maximize(e_step(world, state), alone))
    first, second = results
    assert (first.iteration, second.iteration, state.iteration) == (1, 2, 2)
    assert [row["iteration"] for row in second.history] == [1, 2]
    assert len(first.history) == 1  # a result is not changed afterwards
    assert second.resolution == second.resolutions["corrected"] <= first.resolution < 12
    mask = soft_sphere(24, 8, 3)
    curves = [shell_correlation(r.map * mask, world.volume * mask) for r in results]
    assert curves[1][:9].min() > 0.95 and curves[1][6:10].mean() > 0.97
    copies = second.particles.rotation
    error = rotation_angle(copies, world.truth.rotation).rad2deg()
    assert error.median() < 4
    assert first.rotation_change.isnan().all()  # there was nothing to compare with
    assert second.rotation_change.median() < 5
    assert set(second.seconds) >= {"coarse", "polish", "insert", "solve", "fsc"}
    assert second.half_maps.shape == (2, 24, 24, 24) and not second.final


def test_sums_of_two_ranks_are_those_of_one(
    simulate: Callable, start: Callable, alone: Callable
) -> None:
    """The reduction sees sums and found rows; adding two ranks' halves of the work changes nothing."""
    world = simulate(48, 4.0)
    batches = world.batches(8)
    parts = []
    for rank in (0, 1):
        parts.append(Expectation(start(world), world.settings, torch.device("cpu")))
        for number in range(len(batches)):
            if number % 2 == rank:
                expect(parts[-1], batches[number])
    whole = Expectation(start(world), world.settings, torch.device("cpu"))
    for number in range(len(batches)):
        expect(whole, batches[number])

    def add(tensors: list[Tensor]) -> None:
        others = [merge_(a) for a in parts[1].sums] + parts[1].result.tensors()
        assert len(tensors) == len(others)
        for tensor, other in zip(tensors, others):
            tensor += other

    state, alike = start(world), start(world)
    together = maximize(parts[0], add)
    expected = maximize(whole, alone)
    scale = expected.map.abs().max()
    assert (together.map - expected.map).abs().max() < 1e-3 * scale
    assert torch.equal(together.particles.rotation, expected.particles.rotation)
    assert torch.allclose(state.noise, alike.noise, rtol=1e-5)
