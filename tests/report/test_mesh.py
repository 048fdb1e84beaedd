from __future__ import annotations

import numpy as np
import pytest
import torch

from cryotorch.report.mesh import DENSITY_SHARE, MAX_VERTICES, isosurface


def ball(box: int, centre: tuple[float, float, float], sigma: float) -> torch.Tensor:
    """A Gaussian at (x, y, z) pixels from the origin."""
    r = torch.arange(float(box)) - box // 2
    z, y, x = torch.meshgrid(r, r, r, indexing="ij")
    d2 = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    return torch.exp(-d2 / (2 * sigma**2))


def signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


@pytest.mark.parametrize("box", [32, 33, 96])
def test_a_gaussian_gives_a_sphere_at_its_place_facing_outwards(box: int) -> None:
    pixel, sigma, centre = 2.0, box / 9, (box / 8, -box / 16, 0.0)
    volume = ball(box, centre, sigma)
    mesh = isosurface(volume, None, pixel)
    np.testing.assert_allclose(mesh.vertices.mean(0), np.array(centre) * pixel, atol=0.2)
    level = DENSITY_SHARE * float(np.percentile(volume, 99.9))
    radius = sigma * pixel * np.sqrt(-2 * np.log(level))
    distance = np.linalg.norm(mesh.vertices - np.array(centre) * pixel, axis=1)
    np.testing.assert_allclose(distance, radius, rtol=0.06)
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(4.19 * radius**3, rel=0.06)


def test_what_lies_outside_the_mask_is_left_out() -> None:
    volume = ball(32, (8, 0, 0), 2) + ball(32, (-8, 0, 0), 2)
    mask = torch.zeros(32, 32, 32)
    mask[:, :, 16:] = 1
    mesh = isosurface(volume, mask, 1.0)
    assert mesh.vertices[:, 0].min() > -1


def test_a_map_that_touches_the_box_is_closed() -> None:
    mesh = isosurface(torch.ones(8, 8, 8), None, 1.0)
    edges = np.sort(np.concatenate([mesh.faces[:, p] for p in ([0, 1], [1, 2], [2, 0])]), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}


def test_size_and_types_suit_a_browser() -> None:
    generator = torch.Generator().manual_seed(0)
    volume = ball(128, (0, 0, 0), 20) + 0.02 * torch.randn(128, 128, 128, generator=generator)
    mesh = isosurface(volume, ball(128, (0, 0, 0), 40), 1.0)
    assert 1000 < len(mesh.faces) < 100_000
    assert mesh.vertices.dtype == np.float32 and mesh.colours.dtype == np.uint8
    assert mesh.faces.dtype == np.int32 and mesh.faces.max() < len(mesh.vertices)


def test_pure_noise_keeps_within_the_viewers_limit() -> None:
    volume = torch.randn(64, 64, 64, generator=torch.Generator().manual_seed(0))
    mesh = isosurface(volume, None, 1.0)
    assert 1000 < len(mesh.vertices) <= MAX_VERTICES == 65_535
    assert np.abs(mesh.vertices).max() <= 34  # still the edge of the map


@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan])
def test_nothing_to_show_is_none(value: float) -> None:
    assert isosurface(torch.full((8, 8, 8), value), None, 1.0) is None
    assert isosurface(torch.ones(8, 8, 8), torch.zeros(8, 8, 8), 1.0) is None
