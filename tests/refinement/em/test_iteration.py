"""An iteration in whole: the map becomes better. That ranks share the work without a trace is in ``runtime/test_ranks.py``."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.em.iteration import maximize
from cryotorch.refinement.runtime.ranks import Ranks


def test_an_iteration_improves_the_map_and_tells_what_it_did(
    simulate: Callable, start: Callable, e_step: Callable, alone: Ranks
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
