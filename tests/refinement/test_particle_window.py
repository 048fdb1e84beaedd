"""The circle around a particle: as wide as it and what its CTF spreads, and it leaves a centred particle where it was."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier.transforms import pack, unpack
from cryotorch.ops.masks.soft import soft_circle
from cryotorch.particles import Optics, unposed
from cryotorch.refinement.particle_window import cut_out, particle_window, typical_delocalisation
from cryotorch.refinement.settings import ImageGrid

BOX, PIXEL = 64, 2.0
GRID = ImageGrid(BOX, PIXEL, (28.0, 31.0))
LAMBDA = 0.019687  # Å at 300 kV


def particles(*defocus: float):
    optics = Optics(*(torch.tensor([v]) for v in (300.0, 2.7, 0.1, PIXEL)))
    u = torch.tensor(defocus)
    return unposed(len(u), optics).replace(defocus=torch.stack([u, u, 0 * u], 1))


def test_what_the_ctf_spreads_follows_from_the_defocus() -> None:
    """lambda x defocus x k; of a hundred particles the five farthest off do not count."""
    found = typical_delocalisation(particles(10000.0))
    assert found == pytest.approx(LAMBDA * 10000, rel=1e-3)
    many = particles(*[10000.0] * 96, *[90000.0] * 4)
    assert typical_delocalisation(many) == pytest.approx(LAMBDA * 10000, rel=1e-3)


def test_the_circle_is_as_wide_as_the_particle_and_its_spread() -> None:
    """10 px, and lambda x defocus = 39.4 Å² times 20 shells of 128 Å makes 6.15 Å = 3.08 px."""
    window = particle_window(particles(2000.0), 10.0, 20.0, GRID)
    spread = LAMBDA * 2000 * 20 / (BOX * PIXEL) / PIXEL
    assert spread == pytest.approx(3.08, abs=0.01)
    torch.testing.assert_close(window, soft_circle(BOX, 10 + spread, 0.05 * BOX), atol=2e-3, rtol=0)


@pytest.mark.parametrize("radius", [None, 26.0])
def test_it_ends_where_the_images_do(radius: float | None) -> None:
    window = particle_window(particles(2000.0), radius, 20.0, GRID)
    torch.testing.assert_close(window, soft_circle(BOX, 31 - 0.05 * BOX, 0.05 * BOX))


def test_particles_are_cut_out_where_they_are() -> None:
    """A shift of (-6, 4) px centres a particle that lies at (6, -4); its neighbour 18 px away goes, and with the other sign it would."""
    along = torch.arange(BOX) - BOX // 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    own, other = (torch.exp(-((x - 6) ** 2 + (y - at) ** 2) / 8) for at in (-4, 14))
    kept = []
    for shift in ([-6.0, 4.0], [6.0, -4.0]):
        found = cut_out(pack((own + other)[None]), torch.tensor([shift]), soft_circle(BOX, 9, 3))
        left = unpack(found, BOX)[0]
        kept.append([float((left * dot).sum() / dot.square().sum()) for dot in (own, other)])
    assert kept[0] == pytest.approx([1, 0], abs=0.05)
    assert kept[1] == pytest.approx([0, 0], abs=0.05)
