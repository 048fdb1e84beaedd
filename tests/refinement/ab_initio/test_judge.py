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


def two_maps(world) -> torch.Tensor:
    """The molecule, and noise without structure."""
    noise = without_structure(world.volume, torch.Generator().manual_seed(7))
    return torch.stack([world.volume, noise])


def test_what_is_said_of_classes_adds_up(begin: Callable) -> None:
    world = begin(60, snr=0.3)
    sphere, share = soft_sphere(24, 9, 2), torch.tensor([0.7, 0.3])
    about = world.settings, 0.5, sphere
    both = judge(world.images, two_maps(world), share, *about)
    alone = judge(world.images, world.volume[None], torch.ones(1), *about)
    torch.testing.assert_close(both.of_class[:, :1], alone.of_class, atol=2e-3, rtol=1e-3)
    mixed = (0.7 * both.of_class[:, 0].exp() + 0.3 * both.of_class[:, 1].exp()).log()
    torch.testing.assert_close(both.evidence, mixed, atol=1e-3, rtol=1e-3)
    assert float(both.share.sum()) == pytest.approx(1, abs=1e-5) and both.share[0] > 0.8
    assert both.class_leads[0] > 5 > both.class_leads[1]
    torch.testing.assert_close(both.worth, both.share * torch.tensor([1.0, 0.0]))


def test_no_class_of_noise_claims_structure(begin: Callable) -> None:
    """Also where each image is counted for the class that it likes best."""
    sphere, share = soft_sphere(24, 9, 2), torch.full((2,), 0.5)
    noise = begin(200, noise_only=True)
    found = judge(noise.images, two_maps(noise), share, noise.settings, 0.5, sphere)
    assert float(found.class_leads.max()) < 4
    torch.testing.assert_close(found.worth, found.share)
