"""The CTF refinement inside a refinement: it takes the poses just found, and its result over."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cryotorch.findings import codes
from cryotorch.refinement.ctf.sums import GroupFit, clear_only
from cryotorch.refinement.em.ctf_round import CtfRound, _of_optics
from cryotorch.refinement.settings import CtfTargets
from cryotorch.refinement.state import State
from cryotorch.report.sentences import say

BOX, PIXEL = 64, 1.6
WHAT = CtfTargets(limit=0.0, defocus=True, tilt=False, trefoil=False)


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
    state = State(particles, references, noise, max_shell=BOX / 2 - 2)
    found = SimpleNamespace(rotation=world.truth.rotation, shift=world.truth.shift)
    expectation = SimpleNamespace(result=found, settings=settings, device=torch.device("cpu"))
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
    (change,) = note["changes"]
    assert change.code == "defocus_changed" and 100 < change["rms"] < 2000
    assert 0 < state.defocus_sigma < 150
    go(world, state, settings, expectation)  # a second time, with that as its prior's width
    left = (state.particles.defocus - world.truth.defocus)[:, 0]
    assert float(left.square().mean().sqrt()) < 1.1 * before


def test_a_coarse_map_is_left_alone(scene):
    world, state, settings, expectation, _ = scene
    state.max_shell = 6.0  # 17 Å
    before = state.particles
    said = go(world, state, settings, expectation)
    # 102.4 Å / 6 shells; 102.4 / 20 = 5.12 shells and 3 more are needed
    assert said.code == "ctf_not_refined" and codes(said["reasons"]) == ["map_too_coarse_for_ctf"]
    values = dict(what="defocus", reached=102.4 / 6, needed=102.4 / 8.12)
    assert said["reasons"][0].values == pytest.approx(values)
    assert state.particles is before


def test_optics_that_a_map_is_too_coarse_for_are_named_beside_what_was_done(scene):
    """The defocus begins at 20 Å and the optics at 10 Å: at 10.2 Å the one is refined and the other is not."""
    world, state, settings, expectation, _ = scene
    state.particles = state.particles.replace(
        rotation=world.truth.rotation, shift=world.truth.shift
    )
    settings = replace(settings, ctf=replace(WHAT, tilt=True, trefoil=True))
    state.max_shell = 10.0
    optics = state.particles.optics
    said = go(world, state, settings, expectation)
    assert codes(said["changes"]) == ["defocus_changed", "map_too_coarse_for_ctf"]
    assert said["changes"][1]["what"] == "optics"
    assert say(said).startswith("CTF refined: defocus changed by 1")
    assert say(said).endswith("refine the optics with, 10.2 Å where 7.73 Å are needed")
    assert state.particles.optics is optics


def test_what_is_said_of_the_optics_is_what_was_taken_over():
    pair = torch.tensor([2.0, -1.0])
    trefoil, none = GroupFit(9, {"trefoil": pair}, {}, []), GroupFit(9, {}, {}, [])
    tilt = GroupFit(9, {"shift": pair, "tilt": pair}, {}, [])
    optics = SimpleNamespace(beam_tilt=torch.tensor([[0.5, -0.25]]))
    assert say(_of_optics([trefoil], optics)) == "trefoil changed"
    assert say(_of_optics([none, tilt], optics)) == "beam tilt (0.50, -0.25) mrad"
    both = say(_of_optics([trefoil, tilt], optics))
    assert both == "beam tilt (0.50, -0.25) mrad, trefoil changed"
    assert _of_optics([none], optics).code == "no_aberration"
    assert say(_of_optics([tilt], SimpleNamespace(beam_tilt=None))) == "tilt changed"


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
