"""Images of blobs at known poses, in one state, in two, or with one blob that moves to and fro."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.particles import Optics, unposed
from cryotorch.refinement.half_sets import draw_half_sets
from cryotorch.refinement.image_weight import unlimited
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.spectra import Spectra
from cryotorch.refinement.variability.em import Poses, half_means, measure_noise_
from cryotorch.refinement.variability.settings import VariabilitySettings

BOX, PIXEL, LIMIT = 24, 4.0, 8.0
STILL = ((-4.0, 0.0, 0.0), (3.0, 3.0, 1.0), (0.0, -4.0, 3.0), (1.0, 0.0, -5.0))


def blob(x: float, y: float, z: float, width: float = 1.5) -> Tensor:
    line = torch.arange(BOX) - BOX // 2
    squares = (line - x) ** 2 + (line[:, None] - y) ** 2 + (line[:, None, None] - z) ** 2
    return (-squares / (2 * width**2)).exp()


def molecule(moved: float) -> Tensor:
    """Blobs that stay, and one that has moved along y."""
    return sum(blob(*place) for place in STILL) + blob(5.0, -2.0 + moved, -2.0)


def quiet(images: int) -> None:
    """Nobody is told of progress."""


def dataset(n: int, moved: Tensor, noise: float, seed: int = 0, k: int = 2) -> SimpleNamespace:
    """n images whose particles have a blob moved by so many pixels (n,), ready for EM; noise: sigma of a coefficient over that of the signal's."""
    draw = torch.Generator().manual_seed(seed)
    rotation = random_rotations(n, draw).float()
    shift_px = torch.randn(n, 2, generator=draw)
    parts = []
    for step in moved.unique():
        rows = torch.nonzero(moved == step)[:, 0]
        parts.append((rows, project(molecule(float(step)), rotation[rows], shift_px[rows])))
    count = parts[0][1].shape[1]
    spectra = torch.zeros(n, count, dtype=torch.complex64)
    for rows, values in parts:
        spectra[rows] = values
    sigma = noise * float(spectra.abs().square().mean()) ** 0.5
    spectra = spectra + sigma * torch.randn(n, count, generator=draw, dtype=torch.complex64)
    particles = unposed(n, Optics(*(torch.tensor([v]) for v in (300.0, 0.0, 1.0, PIXEL))))
    particles = particles.replace(
        rotation=rotation, shift=shift_px * PIXEL, half=draw_half_sets(n, seed), has_pose=True
    )
    grid = ImageGrid.whole(BOX, PIXEL)
    level = torch.full((1, BOX // 2 + 1), 2.0 * sigma**2)
    held = Spectra(unpack(spectra, BOX), particles, grid, level, unlimited(BOX), LIMIT)
    poses = Poses(rotation, shift_px, particles.half)
    mask = soft_sphere(BOX, 8, 3)
    how = VariabilitySettings(grid, mask, k, LIMIT, 0.0, 10, 0, 128)
    with torch.no_grad():
        means = half_means(held, poses, how, quiet)
        measure_noise_(held, poses, means, how, quiet)
    return SimpleNamespace(
        spectra=held, poses=poses, how=how, means=means, moved=moved, sigma=sigma, n=n
    )


@pytest.fixture(scope="session")
def two_states() -> SimpleNamespace:
    """400 images, of which 150 have the blob elsewhere."""
    moved = torch.zeros(400)
    moved[250:] = 4.0
    return dataset(400, moved, 2.0)


@pytest.fixture(scope="session")
def one_state() -> SimpleNamespace:
    """400 images of one map."""
    return dataset(400, torch.zeros(400), 2.0)


@pytest.fixture(scope="session")
def blobs() -> SimpleNamespace:
    """How the images are made, for tests that make others."""
    return SimpleNamespace(
        box=BOX,
        limit=LIMIT,
        still=STILL,
        blob=blob,
        molecule=molecule,
        dataset=dataset,
        quiet=quiet,
    )
