"""Images of patterns of blobs, turned and moved, with noise."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from cryotorch.particles import Optics, unposed
from cryotorch.refinement.class2d.settings import ClassSettings
from cryotorch.refinement.settings import ImageGrid

BOX, PIXEL = 32, 4.0
# (x, y, height) of blobs, pixels: neither pattern is the other's mirror image, nor symmetric
PATTERNS = (
    ((-6.0, 0.0, 1.0), (5.0, 3.0, 1.0), (4.0, -6.0, 0.7)),
    ((0.0, 7.0, 1.0), (-2.0, -1.0, 1.2), (1.0, -7.0, 0.6), (-6.0, -6.0, 0.8)),
)


def picture(which: int, psi: float, shift: tuple[float, float]) -> torch.Tensor:
    """A pattern at a pose: x_image = R x - shift, R = (cos sin; -sin cos)."""
    line = torch.arange(BOX) - BOX // 2
    c, s = math.cos(psi), math.sin(psi)
    image = torch.zeros(BOX, BOX)
    for x, y, height in PATTERNS[which]:
        u, v = c * x + s * y - shift[0], -s * x + c * y - shift[1]
        image += height * (-((line - u) ** 2 + (line[:, None] - v) ** 2) / (2 * 1.8**2)).exp()
    return image


def in_focus(n: int):
    """n particles whose CTF is 1."""
    return unposed(n, Optics(*(torch.tensor([v]) for v in (300.0, 0.0, 1.0, PIXEL))))


@pytest.fixture(scope="session")
def patterns() -> SimpleNamespace:
    """160 images of each pattern in white noise of standard deviation 0.5."""
    generator = torch.Generator().manual_seed(4)
    n = 320
    which = torch.arange(n) % 2
    psi = torch.rand(n, generator=generator) * 2 * math.pi
    shift = torch.randn(n, 2, generator=generator)
    clean = [
        picture(int(k), float(a), (float(t[0]), float(t[1])))
        for k, a, t in zip(which, psi, shift, strict=True)
    ]
    noise = torch.randn(n, BOX, BOX, generator=generator)
    images = torch.stack(clean) + 0.5 * noise
    half = torch.arange(n) // 2 % 2
    truth = dict(which=which, psi=psi, shift=shift, half=half, n=n)
    made = dict(images=images, noise=noise, particles=in_focus(n), picture=picture)
    return SimpleNamespace(**truth, **made)


@pytest.fixture(scope="session")
def how() -> ClassSettings:
    """Four classes, the images up to 14 Å."""
    return ClassSettings(
        grid=ImageGrid(BOX, PIXEL, (0.85 * BOX / 2, 0.99 * BOX / 2)),
        radius=13.0,
        n_classes=4,
        first_limit=3.5,
        last_limit=9.0,
        shared_limit=3.5,
        step=None,
        extent=3.0,
        batch=160,
        iterations=10,
        passes=2,
        recentre=True,
        seed=0,
    )
