"""Truncated spectra are those of the images, which are read once."""

from __future__ import annotations

import torch

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.refinement.class2d.spectra import Spectra
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.image_weight import unlimited


class Counted:
    """Images that know how often they were read."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images, self.reads = images, 0

    def __getitem__(self, rows: list[int]) -> torch.Tensor:
        self.reads += len(rows)
        return self.images[rows]


BOX = 32


def test_as_observed_and_read_once(patterns, how) -> None:
    images, noise = Counted(patterns.images), torch.full((1, BOX // 2 + 1), 0.3)
    particles = patterns.particles
    spectra = Spectra(images, particles, how.grid, noise, unlimited(BOX), 9.0)
    rows = torch.tensor([7, 3, 300])
    seen = spectra.of(rows, 6.0)
    wanted = observe(particles, rows, patterns.images[rows], noise, how.grid)
    count = half_plane(BOX).count(6.0)
    assert torch.equal(seen.spectrum, wanted.spectrum[:, :count])
    assert torch.allclose(seen.gain, wanted.gain[:, :count])
    assert torch.allclose(seen.precision, wanted.precision[:, :count])
    assert spectra.of(rows, 40.0).spectrum.shape[1] == half_plane(BOX).count(9.0)
    spectra.of(torch.tensor([3, 4]), 9.0)
    assert images.reads == 4 and len(spectra) == patterns.n


def test_a_loud_image_counts_for_less(patterns, how) -> None:
    loud = patterns.images.clone()
    loud[5] *= 30
    noise, most = torch.full((1, BOX // 2 + 1), 0.3), torch.full_like(unlimited(BOX), 10.0)
    spectra = Spectra(loud, patterns.particles, how.grid, noise, most, 9.0)
    precision = spectra.of(torch.tensor([4, 5]), 9.0).precision
    assert float(precision[0].min()) > 2 and float(precision[1].max()) < 0.5
    assert [*spectra.watch.faults(BOX, 4.0)] == [5]
