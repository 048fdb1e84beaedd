"""What an iteration leaves: the history in Å and degrees, errors with those of the reference, and only particles that were looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cryotorch.findings import codes
from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.refinement.em import outcome
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.iteration import expect, maximize
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import LocalSettings, SearchExtent, SearchSettings


@pytest.fixture
def of_one_batch(
    simulate: Callable, start: Callable, alone: Ranks, monkeypatch: pytest.MonkeyPatch
):
    """State, findings and result of an iteration that took 15 of 40 particles; references double their errors, or treble them."""
    factors = torch.tensor([2.0, 3.0])
    monkeypatch.setattr(outcome, "error_factors", lambda sigma, moved: factors)
    world = simulate(40, 4.0, per_particle_scale=False)
    state = start(world)
    expectation = Expectation(state, world.settings, torch.device("cpu"))
    expect(expectation, world.batches(15)[0])
    found = expectation.result.cpu()
    return state, found, maximize(expectation, alone)


def test_the_history_is_in_the_units_of_users(of_one_batch) -> None:
    _, _, result = of_one_batch
    (row,) = result.history
    assert row["limit"] == pytest.approx(24 * 4.0 / 9)  # 9 shells of 96 Å
    assert row["particles"] == 15 and row["iteration"] == 1
    assert row["seconds"] == pytest.approx(sum(result.seconds.values()))
    assert {k for k in row if k.startswith("seconds_")} == {f"seconds_{k}" for k in result.seconds}


def test_standard_errors_hold_those_of_the_reference(of_one_batch) -> None:
    state, found, result = of_one_batch
    rows = found.updated > 0
    assert len(result.particles) == int(rows.sum()) == 15
    told = result.particles.pose_sigma
    torch.testing.assert_close(told, found.sigma[rows] * torch.tensor([2.0, 3.0]))
    assert torch.equal(state.particles.pose_sigma[rows], found.sigma[rows])


def test_only_particles_that_were_looked_at_are_told_of(of_one_batch) -> None:
    _, found, result = of_one_batch
    rows = torch.nonzero(found.updated)[:, 0]
    assert torch.equal(result.particles.rotation, found.rotation[rows])
    assert len(result.rotation_change) == len(result.shift_change) == 15
    assert len(result.noise_factor) == 15


def test_departures_are_counted_from_the_first_poses() -> None:
    """About a fulcrum 4 px up the beam, a turn by 30° about y moves the image by 2 px = 6 Å, which is no departure."""
    turn = torch.tensor([[0.0, math.radians(30), 0.0]] * 2)
    moved = torch.tensor([[6.0, 0.0], [6.0, 4.5]])
    now = SimpleNamespace(rotation=from_rotation_vector(turn), shift=moved)
    first = dict(anchor_rotation=torch.eye(3).repeat(2, 1, 1), anchor_shift=torch.zeros(2, 2))
    extent = SearchExtent((0.0, 0.0, 4.0), math.radians(40), 2.0)
    settings = SimpleNamespace(local=LocalSettings(extent), pixel_size=3.0)
    found = outcome._departures(SimpleNamespace(particles=now, **first), settings)
    assert found.rotation == pytest.approx(30, abs=1e-3)
    assert found.shift.tolist() == pytest.approx([0, 4.5], abs=1e-4)
    assert (found.most_rotation, found.most_shift) == pytest.approx((40, 6))
    settings.local = None
    assert outcome._departures(None, settings) is None


def test_particles_are_judged_at_the_end(of_one_batch, nothing_found) -> None:
    """A fifth matches half as well and leaves twice as much: it is junk, and said so; an iteration in between tells nothing."""
    state, _, result = of_one_batch
    assert result.probability is None and result.junk is None
    n = 600
    draw = torch.Generator().manual_seed(2)
    junk = torch.arange(n) % 5 == 0
    amplitude = torch.where(junk, 0.5, 1.0) + 0.05 * torch.randn(n, generator=draw)
    misfit = torch.where(junk, 2.0, 1.0) * (0.1 * torch.randn(n, generator=draw)).exp()
    found = replace(
        nothing_found(n), cross=200 * amplitude, power=torch.full((n,), 200.0), misfit=misfit
    )
    particles = SimpleNamespace(half=torch.arange(n) % 2, optics_group=torch.zeros(n))
    state.particles = particles
    settings = SimpleNamespace(search=SearchSettings(), group=torch.eye(3)[None], box=48)
    last = outcome._with_quality(replace(result, final=True), state, settings, found)
    assert last.probability is not None and torch.equal(last.probability < 0.5, junk)
    assert last.junk == pytest.approx(0.2, abs=0.01)
    assert codes(last.messages)[-1] == "junk"
    some = replace(found, updated=(torch.arange(n) > 3).float())
    assert outcome._with_quality(replace(result, final=True), state, settings, some).junk is None
