"""Before the first iteration: noise, grey scale, contrast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.refinement.em.initialise import initial_reference, initialise_state

CPU = torch.device("cpu")


def start(world, volume=None, resolution: float = 24.0, **changes):
    volume = world.volume if volume is None else volume
    settings = replace(world.settings, **changes)
    return initialise_state(world.blind, volume, world.batches(), settings, resolution, CPU)


@pytest.mark.parametrize("factor", [1000.0, 0.001])
@pytest.mark.parametrize("snr", [4.0, 0.5])
def test_the_grey_scale_is_recovered(factor: float, snr: float, simulate: Callable) -> None:
    world = simulate(120, snr)
    state, notes = start(world, world.volume * factor)
    wanted = initial_reference(world.volume, world.settings, 24.0, CPU)
    found = float((state.references[0] * wanted).sum() / wanted.square().sum())
    assert found == pytest.approx(1, abs=0.1)
    assert codes(notes) == ["grey_scale"]
    assert torch.equal(state.references[0], state.references[1])


def test_the_result_does_not_depend_on_the_given_scale(simulate: Callable) -> None:
    world = simulate(60, 2.0)
    first, second = (start(world, world.volume * factor)[0].references for factor in (1e3, 1e-3))
    assert torch.allclose(first, second, rtol=1e-3, atol=1e-4 * float(first.max()))


def test_the_grey_scale_is_left_alone_on_request(simulate: Callable) -> None:
    world = simulate(40, 2.0)
    state, notes = start(world, world.volume * 5, rescale_reference=False)
    wanted = initial_reference(5 * world.volume, world.settings, 24.0, CPU)
    assert torch.equal(state.references[0], wanted * state.mask) and notes == []
    # inside a mask of the initial map from the first iteration on
    assert 0.02 < float(state.mask.mean()) < 0.7


@pytest.mark.parametrize("snr", [4.0, 0.5])
def test_inverted_contrast_is_refused(snr: float, simulate: Callable) -> None:
    world = simulate(120, snr)
    world.images = -world.images
    with pytest.raises(InputError, match="invert"):
        start(world)
    world.images = -world.images
    with pytest.raises(InputError, match="invert"):
        start(world, -world.volume)
    start(world)


def test_noise_alone_is_no_reason_to_refuse_and_has_little_of_the_map(simulate: Callable) -> None:
    world = simulate(120, 1.0)
    world.images = torch.randn(world.images.shape, generator=torch.Generator().manual_seed(5))
    state, _ = start(world)
    wanted = initial_reference(world.volume, world.settings, 24.0, CPU)
    found = float((state.references[0] * wanted).sum() / wanted.square().sum())
    assert 0 < found < 0.3


def test_the_first_noise_level_is_the_power_of_the_images(simulate: Callable) -> None:
    world = simulate(200, 1.0, groups=2)
    world.images = torch.randn(world.images.shape, generator=torch.Generator().manual_seed(6))
    world.images[100:] *= 2
    noise = start(world)[0].noise
    assert noise.shape == (2, 2, 13) and torch.equal(noise[0], noise[1])
    assert (noise[:, 1] / noise[:, 0])[:, 2:] == pytest.approx(4, rel=0.25)
    flat = noise[0, 0, 2:12]
    assert flat.std() < 0.1 * flat.mean() and 0.5 < flat.mean() < 1


def test_a_group_without_a_sample_takes_the_mean(simulate: Callable) -> None:
    world = simulate(40, 1.0, groups=2)
    world.blind = world.blind.replace(optics_group=torch.zeros(40, dtype=torch.int64))
    noise = start(world)[0].noise
    assert torch.allclose(noise[:, 1], noise[:, 0], rtol=1e-5)
