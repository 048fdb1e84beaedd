"""The CTF refinement inside a refinement: it takes the poses just found, and its result over."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cryotorch.refine.ctf_compare import CtfWhat
from cryotorch.refine.ctf_round import CtfRound
from cryotorch.refine.ctf_sums import GroupFit, clear_only
from cryotorch.refine.state import State

BOX, PIXEL = 64, 1.6
WHAT = CtfWhat(limit=0.0, defocus=True, tilt=False, trefoil=False)


@pytest.fixture
def scene(simulate):
    """A world whose particles start with defocus errors of up to 300 Å, and the poses an E-step would find."""
    world = simulate(n=96, box=BOX, pixel=PIXEL, snr=2.0)
    error = 300 * (2 * torch.rand(96, generator=torch.Generator().manual_seed(2)) - 1)
    wrong = world.truth.defocus.clone()
    wrong[:, :2] -= error[:, None]
    particles = world.truth.replace(
        defocus=wrong, rotation=torch.eye(3).repeat(96, 1, 1), shift=torch.zeros(96, 2)
    )
    settings = replace(world.settings, ctf=WHAT)
    references = world.volume.expand(2, -1, -1, -1).clone()
    noise = torch.ones(2, 1, BOX // 2 + 1)
    state = State(particles, references, noise, limit=BOX / 2 - 2)
    found = SimpleNamespace(rotation=world.truth.rotation, shift=world.truth.shift)
    expectation = SimpleNamespace(found=found, settings=settings, device=torch.device("cpu"))
    return world, state, settings, expectation, error


def go(world, state, settings, expectation, reduce=lambda tensors: None):
    batches = world.batches(48)
    one = CtfRound(state, settings, batches, settings.ctf)
    for number in range(len(batches)):
        one.add(batches[number], expectation)
    return one.conclude(state, reduce)


def test_defocus_is_found_with_the_poses_of_the_iteration(scene):
    world, state, settings, expectation, error = scene
    # calibration compares at the poses of the iteration before, which must be near
    state.particles = state.particles.replace(
        rotation=world.truth.rotation, shift=world.truth.shift
    )
    note = go(world, state, settings, expectation)
    left = (state.particles.defocus - world.truth.defocus)[:, 0]
    before = float(left.square().mean().sqrt())
    assert float(left.square().mean().sqrt()) < 0.3 * float(error.square().mean().sqrt())
    assert "defocus changed by 1" in note and "rms" in note
    assert 0 < state.defocus_sigma < 150
    go(world, state, settings, expectation)  # a second time, with that as its prior's width
    left = (state.particles.defocus - world.truth.defocus)[:, 0]
    assert float(left.square().mean().sqrt()) < 1.1 * before


def test_a_coarse_map_is_left_alone(scene):
    world, state, settings, expectation, _ = scene
    state.limit = 6.0  # 17 Å
    before = state.particles
    assert "too coarse" in go(world, state, settings, expectation)
    assert state.particles is before


def test_a_refinement_takes_over_clear_aberrations_only():
    """The shift that was fitted with a tilt goes with it; terms of other angular orders do not vouch for each other."""
    pair, one = torch.tensor([2.0, -1.0]), torch.tensor([5.0])
    values = {"shift": 9 * pair, "tilt": pair, "trefoil": 0.1 * pair, "spherical": one}
    sigma = {"shift": pair.abs(), "tilt": one[[0, 0]] / 6, "trefoil": one[[0, 0]], "spherical": one}
    found = GroupFit(100, values, sigma, [])
    assert set(clear_only(found, 0.0).values) == set(values)
    assert set(clear_only(found, 2.0).values) == {"shift", "tilt"}
    assert set(clear_only(found, 2.5).values) == set()
    assert set(clear_only(replace(found, values={"spherical": one}), 0.9).values) == {"spherical"}
    assert found.values is values and len(values) == 4
