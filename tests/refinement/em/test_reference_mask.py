"""The mask of the references: the sphere, the given one, and the one that follows the map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.refinement.em.reference_mask import (
    first_mask,
    mask_references,
    masked_map,
    sphere,
    update_mask,
)
from cryotorch.refinement.settings import MaskSettings


def test_the_dynamic_mask_ends_before_the_box_does(simulate: Callable, start: Callable) -> None:
    world = simulate()
    state, s = start(world), world.settings
    off = world.volume.roll(5, 0)  # towards one face
    update_mask(state, off, 1.0, replace(s, mask=MaskSettings("dynamic", near=6, far=40)))
    ends = [state.mask.select(axis, place) for axis in range(3) for place in (0, -1)]
    assert float(state.mask.max()) == 1
    assert max(float(end.max()) for end in ends) == 0


GIVEN = soft_sphere(24, 6, 3)


def test_the_sphere_is_as_wide_as_the_images_or_the_particle(simulate: Callable) -> None:
    """Of 11.88 px, an edge of 0.96 px included, or of 5 px and the edge."""
    s = simulate().settings
    for radius, widest in ((None, 10.92), (5.0, 5.0), (99.0, 10.92)):
        found = sphere(replace(s, particle_radius=radius), torch.device("cpu"))
        torch.testing.assert_close(found, soft_sphere(24, widest, 0.96))


@pytest.mark.parametrize(
    ("mode", "resolution", "used"),
    [("static", 30.0, True), ("static", 5.0, True), ("dynamic", 30.0, True), ("none", 5.0, False)],
)
def test_the_given_mask_stays(
    simulate: Callable, start: Callable, mode: str, resolution: float, used: bool
) -> None:
    world = simulate()
    state, s = start(world), replace(world.settings, mask=MaskSettings(mode, user_mask=GIVEN))
    update_mask(state, world.volume, resolution, s)
    if used:
        assert torch.equal(state.mask, GIVEN)
        assert 8 < state.mask_radius <= 9  # ends at 9 px
    else:
        assert state.mask is None and state.mask_radius is None


def test_a_map_better_than_the_start_resolution_makes_a_mask(
    simulate: Callable, start: Callable
) -> None:
    """Around a ball of 6 px: whole up to 1.5 px beyond it and nothing from 3.5 px on, but for what the low-pass blurs."""
    world, ball = simulate(), soft_sphere(24, 6, 0.5)
    state = start(world)
    update_mask(state, ball, 11.0, world.settings)
    assert float(state.mask[12, 12, 12:19].min()) > 0.99
    assert 8.5 < state.mask_radius < 11
    coarse = start(world)
    update_mask(coarse, ball, 13.0, world.settings)
    assert coarse.mask is None


def test_the_first_mask_needs_density(simulate: Callable, start: Callable) -> None:
    world, ball = simulate(), soft_sphere(24, 5, 0.5)
    for volume, made in ((ball, True), (ball - 2, False)):
        state = start(world)
        first_mask(state, volume, 30.0, world.settings)
        assert (state.mask is not None) == made
    state = start(world)
    first_mask(state, ball, 30.0, replace(world.settings, mask=MaskSettings("none")))
    assert state.mask is None


def test_references_are_multiplied_by_mask_and_sphere(simulate: Callable, start: Callable) -> None:
    world = simulate(particle_radius=7.0, mask=MaskSettings("static", user_mask=GIVEN))
    state = start(world)
    volume, mask = masked_map(world.volume, 20.0, world.settings)
    assert volume is world.volume
    mask_references(state, [torch.full((24, 24, 24), 3.0)] * 2, mask, world.settings)
    expected = 3 * GIVEN * soft_sphere(24, 7, 0.96)
    torch.testing.assert_close(state.references, expected.expand(2, -1, -1, -1))
