"""Before the first iteration: half sets, noise, grey scale, contrast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.refine.start import assign_half_sets, begin, draw_half_sets, initial_reference

CPU = torch.device("cpu")


def start(world, volume=None, resolution: float = 24.0, **changes):
    volume = world.volume if volume is None else volume
    settings = replace(world.settings, **changes)
    return begin(world.blind, volume, world.batches(), settings, resolution, CPU)


@pytest.mark.parametrize("factor", [1000.0, 0.001])
@pytest.mark.parametrize("snr", [4.0, 0.5])
def test_the_grey_scale_is_recovered(factor: float, snr: float, simulate: Callable) -> None:
    world = simulate(120, snr)
    state, notes = start(world, world.volume * factor)
    wanted = initial_reference(world.volume, world.settings, 24.0, CPU)
    found = float((state.references[0] * wanted).sum() / wanted.square().sum())
    assert found == pytest.approx(1, abs=0.1)
    assert len(notes) == 1 and "grey scale" in notes[0]
    assert torch.equal(state.references[0], state.references[1])


def test_the_result_does_not_depend_on_the_given_scale(simulate: Callable) -> None:
    world = simulate(60, 2.0)
    first, second = (start(world, world.volume * factor)[0].references for factor in (1e3, 1e-3))
    assert torch.allclose(first, second, rtol=1e-3, atol=1e-4 * float(first.max()))


def test_the_grey_scale_is_left_alone_on_request(simulate: Callable) -> None:
    world = simulate(40, 2.0)
    state, notes = start(world, world.volume * 5, rescale_reference=False)
    wanted = initial_reference(5 * world.volume, world.settings, 24.0, CPU)
    assert torch.equal(state.references[0], wanted) and notes == []


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


def test_noise_alone_is_no_reason_to_refuse(simulate: Callable) -> None:
    world = simulate(120, 1.0)
    world.images = torch.randn(world.images.shape, generator=torch.Generator().manual_seed(5))
    state, _ = start(world)
    assert state.references.isfinite().all()


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


def test_half_sets_of_the_input_are_kept(simulate: Callable) -> None:
    particles = simulate(40).blind
    kept, note = assign_half_sets(particles, resplit=False, seed=3)
    assert torch.equal(kept.half, particles.half)
    assert note == "half sets kept as in the input: 20 and 20 particles"


def test_missing_half_sets_are_drawn_equal_by_the_seed(simulate: Callable) -> None:
    particles = simulate(41).blind.replace(half=torch.full((41,), -1))
    first, note = assign_half_sets(particles, False, seed=3)
    assert [int((first.half == h).sum()) for h in (0, 1)] == [20, 21]
    assert "drawn with seed 3" in note
    assert torch.equal(first.half, assign_half_sets(particles, False, 3)[0].half)
    assert not torch.equal(first.half, assign_half_sets(particles, False, 4)[0].half)
    assert (particles.half == -1).all()  # the input is not changed


def test_resplit_draws_anew(simulate: Callable) -> None:
    particles = simulate(40).blind
    drawn, note = assign_half_sets(particles, resplit=True, seed=1)
    assert torch.equal(drawn.half, draw_half_sets(40, 1)) and "drawn" in note
    assert not torch.equal(drawn.half, particles.half)


def test_particles_without_a_half_set_among_others_get_one(simulate: Callable) -> None:
    particles = simulate(40).blind
    half = particles.half.clone()
    half[:10] = -1
    mixed, note = assign_half_sets(particles.replace(half=half), False, seed=0)
    assert torch.equal(mixed.half[10:], particles.half[10:])
    assert mixed.half[:10].sum() == 5 and "10 particles without one" in note


@pytest.mark.parametrize("half", [[0] * 33 + [1] * 7, [0] * 40])
def test_too_small_half_sets_are_refused(half: list[int], simulate: Callable) -> None:
    particles = simulate(40).blind.replace(half=torch.tensor(half))
    with pytest.raises(InputError, match=r"33 and 7|40 and 0"):
        assign_half_sets(particles, False, 0)
    assign_half_sets(particles, True, 0)


def test_fewer_particles_than_the_half_sets_need_are_refused(simulate: Callable) -> None:
    particles = simulate(15).blind.replace(half=torch.full((15,), -1))
    with pytest.raises(InputError, match="7 and 8 particles, at least 8"):
        assign_half_sets(particles, False, 0)
