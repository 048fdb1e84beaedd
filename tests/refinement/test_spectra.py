"""Truncated spectra are those of the images, which are read once or anew, without their magnification or with it."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier.transforms import half_plane, pack
from cryotorch.particles import Optics, unposed
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.image_weight import unlimited
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.spectra import Spectra

BOX, PIXEL, N, LIMIT = 32, 4.0, 320, 9.0
GRID = ImageGrid(BOX, PIXEL, (0.85 * BOX / 2, 0.99 * BOX / 2))
NOISE = torch.full((1, BOX // 2 + 1), 0.3)


class Counted:
    """Images that know how often they were read."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images, self.reads = images, 0

    def __getitem__(self, rows: list[int]) -> torch.Tensor:
        self.reads += len(rows)
        return self.images[rows]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(N, BOX, BOX, generator=torch.Generator().manual_seed(5)) * 0.5


def particles(magnification: torch.Tensor | None = None):
    """Particles whose CTF is 1, of one optics group, or of one per magnification in turn."""
    groups = 1 if magnification is None else len(magnification)
    optics = Optics(*(torch.full((groups,), v) for v in (300.0, 0.0, 1.0, PIXEL)))
    made = unposed(N, optics.replace(magnification=magnification))
    return made.replace(optics_group=torch.arange(N) % groups)


def test_as_observed_and_read_once(images) -> None:
    counted = Counted(images)
    spectra = Spectra(counted, particles(), GRID, NOISE, unlimited(BOX), LIMIT)
    rows = torch.tensor([7, 3, 300])
    seen = spectra.of(rows, 6.0)
    wanted = observe(particles(), rows, images[rows], NOISE, GRID)
    count = half_plane(BOX).count(6.0)
    assert torch.equal(seen.spectrum, wanted.spectrum[:, :count])
    assert torch.allclose(seen.gain, wanted.gain[:, :count])
    assert torch.allclose(seen.precision, wanted.precision[:, :count])
    assert spectra.of(rows, 40.0).spectrum.shape[1] == half_plane(BOX).count(LIMIT)
    spectra.of(torch.tensor([3, 4]), LIMIT)
    assert counted.reads == 4 and len(spectra) == N


def test_together_and_anew(images) -> None:
    """Read anew and not kept: the many of a first map would fill the memory."""
    counted, heard = Counted(images), []
    spectra = Spectra(counted, particles(), GRID, NOISE, unlimited(BOX), LIMIT)
    rows = torch.arange(300)
    every = spectra.together(rows, heard.append)
    assert heard == [256, 44] and every.magnification is None
    some = spectra.read(rows[40:43])
    assert counted.reads == 303 and not spectra.known.any()
    kept = spectra.of(rows[40:43], LIMIT)
    for name in ("spectrum", "gain", "precision"):
        assert torch.equal(getattr(some, name), getattr(every, name)[40:43])
        assert torch.allclose(getattr(some, name), getattr(kept, name))


def test_a_loud_image_counts_for_less(images) -> None:
    images[5] *= 30
    most = torch.full_like(unlimited(BOX), 10.0)
    spectra = Spectra(images, particles(), GRID, NOISE, most, LIMIT)
    precision = spectra.of(torch.tensor([4, 5]), LIMIT).precision
    assert float(precision[0].min()) > 2 and float(precision[1].max()) < 0.5
    assert [*spectra.watch.faults(BOX, PIXEL)] == [5]
    assert torch.allclose(spectra.read(torch.tensor([5])).precision[0], precision[1])


def blob(x: float, y: float, sx: float = 2.0, sy: float = 2.0) -> torch.Tensor:
    line = torch.arange(BOX) - BOX // 2
    fall = ((line - x) / sx) ** 2 + ((line[:, None] - y) / sy) ** 2
    return (-0.5 * fall).exp() * (4 / sx / sy)


def test_the_magnification_is_undone_for_comparison_with_the_same_slices() -> None:
    """Spectra P(M k), M = diag(a, b), are those of a blob at (a x, b y) with widths times a and b."""
    a, b, x, y = 1.08, 0.94, 6.0, -5.0
    images = torch.stack([blob(x, y), blob(a * x, b * y, 2 * a, 2 * b)]).repeat(N // 2, 1, 1)
    stretch = torch.stack([torch.eye(2), torch.diag(torch.tensor([a, b]))])
    noise = NOISE.repeat(2, 1)
    spectra = Spectra(images, particles(stretch), GRID, noise, unlimited(BOX), LIMIT)
    plain, undone = spectra.of(torch.tensor([0, 1]), LIMIT).spectrum
    anew = spectra.read(torch.tensor([0, 1]))
    assert float((undone - plain).norm() / plain.norm()) < 0.01
    assert float((anew.spectrum[1] - plain).norm() / plain.norm()) > 0.15
    assert torch.equal(anew.magnification, stretch)
    count = half_plane(BOX).count(LIMIT)
    assert torch.allclose(plain, pack(images[:1])[0, :count], atol=2e-2)
    # a blob that is off by (1, 2) in the specimen is off by (a, 2 b) in the image
    moved = spectra.in_images(torch.tensor([[1.0, 2.0]]).repeat(N, 1))
    assert torch.allclose(moved[:2], torch.tensor([[1.0, 2.0], [a, 2 * b]]), atol=1e-5)
