"""What an image finds of itself in a map: measured by images that are in none, and taken out of its evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from cryotorch.refinement.hetero.pipeline import take_part
from cryotorch.refinement.hetero.refine import Refiner, SearchPass
from cryotorch.refinement.hetero.searched import measured_part
from cryotorch.refinement.runtime.team import Team


def begun(world, seen: float = 0.5) -> tuple[Refiner, SearchPass]:
    part, _ = take_part(world.task, world.settings, Team(), lambda images: None)
    n = len(world.state)
    unseen = torch.arange(n) >= seen * n
    mask = world.task.mask
    refiner = Refiner(part, world.settings, world.task.image, unseen, mask, True)
    return refiner, refiner.begun(world.maps[:1], 9.0)


def test_images_in_a_map_leave_less_residual_which_others_measure(states: Callable) -> None:
    """Their evidence without it is that of the others, of the same molecule."""
    refiner, state = begun(states(n=200, snr=1.0, part=0.0, n_classes=1))
    with torch.no_grad():
        state = refiner.next_pass(state, 1.0)
        first = refiner.searched(replace(state, limit=8.0, diluted=torch.zeros_like(state.diluted)))
        part = measured_part(first)
        second = refiner.searched(replace(state, limit=8.0, diluted=part))
    fine = slice(5, 8)
    seen, other = (first.own / first.number.clamp_min(1))[:, fine].mean(1)
    assert float(seen) < float(other) - 0.02
    assert 0.3 < float(part[fine].mean()) < 1.0
    unseen = refiner.unseen
    before = first.evidence[~unseen].mean() - first.evidence[unseen].mean()
    after = second.evidence[~unseen].mean() - second.evidence[unseen].mean()
    assert float(after) < float(before) - 2  # what was its own
    torch.testing.assert_close(first.evidence[unseen], second.evidence[unseen], rtol=0, atol=0.2)


def test_an_image_is_compared_with_the_maps_of_its_half(states: Callable) -> None:
    refiner, state = begun(states(n=40, snr=2.0, part=0.0, n_classes=1))
    volumes = state.volumes.clone()
    volumes[1] = 0
    with torch.no_grad():
        found = refiner.searched(replace(state, volumes=volumes))
    half = refiner.part.half
    assert float(found.evidence[half == 0].median()) > 20
    assert float(found.evidence[half == 1].max()) < 1
    refiner.part.insert(torch.ones(40, 1), state.noise, 9.0)
    assert refiner.part.sums is not None
    halves = refiner.part.sums.halves()
    assert not torch.equal(halves.classes[0], halves.classes[1])
