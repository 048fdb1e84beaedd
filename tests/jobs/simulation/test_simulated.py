"""A set in memory before its images: grey scale, poses, and what is to be known of them."""

from __future__ import annotations

import pytest
import torch

from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.config.parse import in_angstrom
from cryotorch.jobs.simulation.particles import signal_power
from cryotorch.jobs.simulation.simulated import simulated
from cryotorch.ops.geometry.placement import centre_of_mass


def make(**changes):
    given = dict(box_size=32, pixel_size=4.0, n_particles=24) | changes
    return simulated(in_angstrom(make_settings("simulate", **given), 4.0))


@pytest.mark.parametrize("snr", [0.3, 2.0])
def test_the_signal_has_the_power_that_was_asked_for(snr: float) -> None:
    """Of noise of variance 1."""
    made = make(snr=snr)
    assert signal_power(made.bodies, made.settings) == pytest.approx(snr, rel=1e-3)
    assert made.rest is None and torch.equal(made.volume, made.bodies[0].volume)


def test_the_same_seed_gives_the_same_set() -> None:
    first, again, other = make(seed=3), make(seed=3), make(seed=4)
    rotation = [s.bodies[0].particles.rotation for s in (first, again, other)]
    assert torch.equal(rotation[0], rotation[1]) and not torch.equal(rotation[0], rotation[2])
    assert torch.equal(first.volume, again.volume)
    assert torch.equal(first.draw.get_state(), again.draw.get_state())


def test_blind_particles_know_their_ctf_and_nothing_else() -> None:
    made = make(snr=1.0)
    truth, blind = made.bodies[0].particles, made.blind()
    assert truth.has_pose and not blind.has_pose and len(blind) == 24
    torch.testing.assert_close(blind.defocus, truth.defocus)
    assert not blind.shift.any()


def test_two_bodies_have_one_grey_scale_and_their_own_poses() -> None:
    made = make(second_body="phantom", snr=1.0)
    first, second = made.bodies
    torch.testing.assert_close(made.volume, first.volume + second.volume)
    assert signal_power(made.bodies, made.settings) == pytest.approx(1.0, rel=1e-3)
    assert not torch.equal(first.particles.rotation, second.particles.rotation)
    assert made.settings.hinge == pytest.approx(made.rest.hinge.tolist())
    apart = (centre_of_mass(first.volume) - centre_of_mass(second.volume)).norm()
    assert apart > 4  # voxels
