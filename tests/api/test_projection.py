"""``project`` makes the images that the searches compare with, and can be trained through."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

import cryotorch as ct

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_followed_by_autograd_or_not_the_images_are_the_same() -> None:
    made = ct.simulate(box_size=24, pixel_size=3.0, n_particles=3, snr=None, seed=4)
    truth = made.particles
    given = truth.rotation, truth.shift, truth.defocus
    lens = dict(pixel_size=3.0, scale=truth.scale)
    plain = ct.project(made.map, *given, **lens)
    followed = ct.project(made.map.clone().requires_grad_(), *given, **lens)
    assert followed.requires_grad and not plain.requires_grad
    spread = float(plain.std())
    assert float((plain - followed.detach()).abs().max()) < 1e-3 * spread
    # and those of the simulation, which has the optics of the defaults
    assert float((plain - made.images).abs().max()) < 1e-3 * spread


def test_the_gradient_by_the_map_is_the_back_projection() -> None:
    """Of <image, y> it is the sum that M-steps add up: <project(v), y> = <v, gradient>."""
    draw = torch.Generator().manual_seed(1)
    volume = torch.randn(16, 16, 16, generator=draw, dtype=torch.float64).requires_grad_()
    rotation = torch.linalg.qr(torch.randn(2, 3, 3, generator=draw, dtype=torch.float64)).Q
    image = torch.randn(2, 16, 16, generator=draw, dtype=torch.float64)
    inner = (ct.project(volume, rotation, pixel_size=2.0) * image).sum()
    inner.backward()
    adjoint = (volume.detach() * volume.grad).sum()
    assert abs(float(adjoint / inner.detach()) - 1) < 1e-6


def test_a_defocus_and_a_rotation_are_found_by_descent() -> None:
    example = runpy.run_path(str(EXAMPLES / "fit_defocus_and_rotation.py"))
    defocus, angle = example["main"]()
    assert defocus < 50 and angle < 0.2  # of 500 Å and 3.1 degrees
