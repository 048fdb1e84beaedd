"""Half sets: kept, drawn by image, refused; and what symmetry expansion leaves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.particles import Particles
from cryotorch.refinement.half_sets import (
    assign_half_sets,
    copies_by_symmetry,
    counted_over,
    draw_half_sets,
    image_numbers,
)


def test_half_sets_of_the_input_are_kept(simulate: Callable) -> None:
    particles = simulate(40).blind
    kept, note = assign_half_sets(particles, resplit=False, seed=3)
    assert torch.equal(kept.half, particles.half)
    assert (note["how"], note["first"], note["second"]) == ("kept", 20, 20)


def test_missing_half_sets_are_drawn_equal_by_the_seed(simulate: Callable) -> None:
    particles = simulate(41).blind.replace(half=torch.full((41,), -1))
    first, note = assign_half_sets(particles, False, seed=3)
    assert [int((first.half == h).sum()) for h in (0, 1)] == [20, 21]
    assert note["how"] == "drawn" and note["seed"] == 3
    assert torch.equal(first.half, assign_half_sets(particles, False, 3)[0].half)
    assert not torch.equal(first.half, assign_half_sets(particles, False, 4)[0].half)
    assert (particles.half == -1).all()  # the input is not changed


def test_resplit_draws_anew(simulate: Callable) -> None:
    particles = simulate(40).blind
    drawn, note = assign_half_sets(particles, resplit=True, seed=1)
    assert torch.equal(drawn.half, draw_half_sets(40, 1)) and note["how"] == "drawn"
    assert not torch.equal(drawn.half, particles.half)


def test_particles_without_a_half_set_among_others_get_one(simulate: Callable) -> None:
    particles = simulate(40).blind
    half = particles.half.clone()
    half[:10] = -1
    mixed, note = assign_half_sets(particles.replace(half=half), False, seed=0)
    assert torch.equal(mixed.half[10:], particles.half[10:])
    assert mixed.half[:10].sum() == 5 and note["drawn"] == 10


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


def expanded(particles: Particles, times: int) -> Particles:
    """Every particle several times in a row."""
    return particles[torch.arange(len(particles)).repeat_interleave(times)]


def test_images_are_numbered_as_they_appear(simulate: Callable) -> None:
    address = torch.tensor([[3, 5], [0, 7], [3, 5], [0, 5], [0, 7]])
    particles = simulate(5).blind.replace(address=address)
    assert image_numbers(particles).tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("resplit", [True, False])
def test_all_particles_of_an_image_come_into_one_half_set(
    resplit: bool, simulate: Callable
) -> None:
    particles = expanded(simulate(30).blind, 3)
    if not resplit:
        particles = particles.replace(half=torch.full((90,), -1))
    drawn, note = assign_half_sets(particles, resplit, seed=2)
    halves = drawn.half.view(30, 3)
    assert (halves == halves[:, :1]).all() and note["first"] == note["second"] == 45
    assert torch.equal(halves[:, 0], draw_half_sets(30, 2))


def test_images_made_of_one_come_into_one_half_set(simulate: Callable) -> None:
    """Of other addresses, as after signal subtraction."""
    origin = torch.arange(60) // 2
    drawn, _ = assign_half_sets(simulate(60).blind.replace(origin=origin), True, seed=0)
    assert torch.equal(drawn.half[::2], drawn.half[1::2])
    with pytest.raises(InputError, match="30 images are in both half sets"):
        assign_half_sets(drawn.replace(half=torch.arange(60) % 2), False, 0)


def test_a_particle_without_a_half_set_joins_its_image(simulate: Callable) -> None:
    particles = expanded(simulate(30).blind, 2)
    half = particles.half.clone()
    half[1::2] = -1
    half[:2] = -1  # of the first image nothing is known
    drawn, _ = assign_half_sets(particles.replace(half=half), False, seed=0)
    assert torch.equal(drawn.half[2:], particles.half[2:]) and drawn.half[0] == drawn.half[1]


def test_images_in_both_half_sets_are_refused_and_drawn_anew(simulate: Callable) -> None:
    particles = expanded(simulate(30).blind, 2)
    half = particles.half.clone()
    half[1] = 1 - half[0]
    half[5] = 1 - half[4]
    wrong = particles.replace(half=half)
    with pytest.raises(InputError, match=r"2 images are in both half sets, .* half_sets=resplit"):
        assign_half_sets(wrong, False, 0)
    drawn, _ = assign_half_sets(wrong, True, 0)
    assert torch.equal(drawn.half[::2], drawn.half[1::2])


def test_copies_of_few_images_do_not_fill_a_half_set(simulate: Callable) -> None:
    particles = expanded(simulate(14).blind, 4)
    with pytest.raises(InputError, match=r"have 7 and 7 particles, .* give more particles"):
        assign_half_sets(particles, True, 0)


def test_copies_made_by_the_symmetry_are_counted(simulate: Callable) -> None:
    group = point_group("D2").float()
    particles = expanded(simulate(10).blind, 4)
    start = random_rotations(10, torch.Generator().manual_seed(3))
    turned = (start[:, None] @ group).flatten(0, 1)
    particles = particles.replace(rotation=turned)
    assert copies_by_symmetry(particles, group) == 30
    assert copies_by_symmetry(particles, point_group("C2").float()) == 10
    assert copies_by_symmetry(particles, point_group("C3").float()) == 0
    once = particles[torch.arange(0, 40, 4)]
    assert copies_by_symmetry(once, group) == 0
    assert counted_over(once, group, "D2") == []
    assert counted_over(particles, point_group("C1"), "C1") == []
    warning = Finding("counted_over", copies=30, particles=40, symmetry="D2")
    assert counted_over(particles, group, "D2") == [warning]
