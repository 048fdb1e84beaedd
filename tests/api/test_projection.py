"""``project`` makes the images that the searches compare with, and can be trained through."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(volume=torch.rand(8, 8)), "volume must be a cube"),
        (dict(rotation=torch.eye(3)), r"rotation must be \(b, 3, 3\)"),
        (dict(shift=torch.zeros(1, 2)), r"shift must be \(b, 2\), one row per image, got \(1, 2\)"),
        (dict(defocus=torch.zeros(3, 3)), r"defocus must be \(b, 3\)"),
        (dict(scale=1.0), "scale is of the type float"),
        (dict(volume=torch.rand(8, 8, 8).half()), "must be float32 or float64"),
        (dict(pixel_size=0), "pixel_size=0 cannot be used: it must be above zero"),
        (dict(pixel_size=True), "pixel_size must be a number"),
        (dict(amplitude_contrast=3), "it must be from 0 to 1"),
        (dict(phase_shift=torch.zeros(2)), "phase_shift must be a number"),
        (dict(rotation=None), "rotation is of the type NoneType"),
        (dict(rotation=torch.full((2, 3, 3), torch.nan)), "rotation has values that are not"),
        (dict(volume=torch.rand(2, 2, 2)), "volume has 2 voxels per edge"),
        (dict(volume=[1.0]), "volume is of the type list: give a tensor"),
        (dict(volume=ct.Map(torch.rand(8, 8, 8), 2.0)), "volume is a Map"),
    ],
)
def test_what_does_not_fit_is_one_sentence(changes: dict, said: str) -> None:
    given = dict(volume=torch.rand(8, 8, 8), rotation=torch.eye(3).repeat(2, 1, 1), pixel_size=2.0)
    with pytest.raises(ct.InputError, match=said):
        ct.project(**(given | changes))


def test_an_odd_box_is_projected_as_an_even_one() -> None:
    """A blob off the centre lies where it does in the next larger box."""
    images = []
    for box in (31, 32):
        place = torch.arange(box) - box // 2 - torch.tensor([[3.0], [-2.0], [4.0]])
        z, y, x = (torch.exp(-(line**2) / 8) for line in place)
        volume = z[:, None, None] * y[:, None] * x
        image = ct.project(volume, torch.eye(3)[None], pixel_size=1.0)[0]
        middle = slice(box // 2 - 12, box // 2 + 12)
        images.append(image[middle, middle] - image[middle, middle].mean())
    assert float((images[0] - images[1]).abs().max()) < 0.02 * float(images[1].max())
