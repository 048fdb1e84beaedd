"""Maps without structure, and what unseen images say of both."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.ab_initio.judge import judge, radial_mean, without_structure


def test_the_radial_mean_of_a_radial_map_is_the_map() -> None:
    ball = soft_sphere(24, 6, 4)
    torch.testing.assert_close(radial_mean(ball), ball, atol=0.08, rtol=0)
    lopsided = ball * (torch.arange(24.0) - 12)
    assert float(radial_mean(lopsided)[:, 1:].abs().max()) < 0.05 * float(lopsided.abs().max())


def test_what_is_left_of_a_map_without_structure_is_its_radial_mean(begin: Callable) -> None:
    volume = begin(20).volume
    empty = without_structure(volume, torch.Generator().manual_seed(0))
    torch.testing.assert_close(radial_mean(empty), radial_mean(volume), atol=0.2, rtol=0.2)
    ball = radial_mean(volume)
    curve = shell_correlation(volume - ball, empty - ball)
    assert float(curve[2:8].abs().mean()) < 0.3
    assert float((empty - ball).norm() / (volume - ball).norm()) == pytest.approx(1, abs=0.02)


def test_unseen_images_prefer_the_truth(begin: Callable) -> None:
    world = begin(150, snr=0.3)
    sphere = soft_sphere(24, 9, 2)
    found = judge(world.images, world.volume[None], torch.ones(1), world.settings, 0.5, sphere)
    assert found.shows_structure and found.lead > 10
    torch.testing.assert_close(found.share, torch.ones(1))


def test_noise_prefers_nothing(begin: Callable) -> None:
    world = begin(150, noise_only=True)
    sphere = soft_sphere(24, 9, 2)
    found = judge(world.images, world.volume[None], torch.ones(1), world.settings, 0.5, sphere)
    assert not found.shows_structure
