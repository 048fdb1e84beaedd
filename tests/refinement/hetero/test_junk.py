"""Junk: its evidence against a brute-force average over random objects, and against that of particles."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch

from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.class_search import ClassSearch
from cryotorch.refinement.hetero.junk import SHARPNESS, STRENGTHS, junk_evidence, mean_power


def test_evidence_is_the_mean_over_random_objects() -> None:
    """Of exp(2 S), S the score of each object at a few coefficients, over many of them."""
    draw = torch.Generator().manual_seed(1)
    m, n = 4, 300_000
    shell = half_plane(8).shell[:m]
    spectrum = torch.view_as_complex(torch.randn(3, m, 2, generator=draw))
    gain, precision = 0.3 + torch.rand(2, 3, m, generator=draw)
    power = 0.2 + torch.rand(m, generator=draw)
    found = junk_evidence(Observation(spectrum, gain, precision, 8), power)
    unit = torch.view_as_complex(torch.randn(n, m, 2, generator=draw) / math.sqrt(2))
    for row in range(3):
        mean = 1.0  # of nothing
        for strength, sharpness in product(STRENGTHS, SHARPNESS):
            decay = torch.exp(-0.5 * (shell / sharpness).square())
            f = gain[row] * (strength * power * decay).sqrt() * unit
            score = precision[row] * ((spectrum[row].conj() * f).real - f.abs().square() / 2)
            mean += float(torch.exp(2 * score.sum(1).double()).mean())
        mean /= 1 + len(STRENGTHS) * len(SHARPNESS)
        assert float(found[row]) == pytest.approx(math.log(mean), abs=0.05)


def test_power_is_that_of_projections(begin: Callable) -> None:
    volume = begin(4).volume
    power = mean_power(projector(volume), 8.0)
    slices = project(volume, random_rotations(400).float(), torch.zeros(400, 2))
    shell = half_plane(24).shell[: len(power)]
    for s in (2, 5):
        mine = slices[:, : len(power)][:, shell == s].abs().square().mean()
        assert float(power[shell == s].mean()) == pytest.approx(float(mine), rel=0.1)


def test_particles_noise_and_blobs_are_told_apart(begin: Callable) -> None:
    """Noise has no evidence beyond that of nothing; blobs of as much power are junk, particles are not."""
    world = begin(60, snr=0.3)
    search = ClassSearch(world.volume[None], 8.0, point_group("C1"), 2.0)
    power = mean_power(search.references[0].slices, 8.0)

    def lead(images: Observation) -> torch.Tensor:
        return search(images)[1][:, 0] - junk_evidence(images, power)

    assert float((lead(world.images) > 0).float().mean()) > 0.95
    nothing = begin(60, noise_only=True).images
    assert float((lead(nothing) < 0).float().mean()) > 0.95
    assert float(junk_evidence(nothing, power).mean()) < 0
    # the same power with random phases
    draw = torch.Generator().manual_seed(2)
    noise = torch.view_as_complex(torch.randn(60, len(power), 2, generator=draw) / math.sqrt(2))
    any_object = torch.view_as_complex(torch.randn(60, len(power), 2, generator=draw)) / math.sqrt(
        2
    )
    seen = world.images.limited(len(power))
    spectrum = noise + seen.gain * power.sqrt() * any_object
    objects = Observation(spectrum, seen.gain, torch.ones_like(seen.gain), 24)
    assert float((lead(objects) < 0).float().mean()) > 0.95
