from __future__ import annotations

import numpy as np
import pytest
import torch

from cryotorch.ops.geometry.rotations import euler_to_matrix
from cryotorch.report.sphere import bandwidth, smooth_density, sphere_grid, viewing_directions


def test_viewing_directions_are_rot_and_tilt() -> None:
    rot, tilt, psi = torch.tensor([0.4, -2.0]), torch.tensor([1.1, 2.8]), torch.tensor([0.3, 1.0])
    got = viewing_directions(euler_to_matrix(rot, tilt, psi).numpy())
    expected = torch.stack([tilt.sin() * rot.cos(), tilt.sin() * rot.sin(), tilt.cos()], 1)
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("sigma_deg", [4.0, 8.0])
def test_one_direction_gives_the_closed_form(sigma_deg: float) -> None:
    """4 pi exp((x.y - 1) / s^2) / (2 pi s^2) around a direction that lies on no grid axis."""
    sigma = np.radians(sigma_deg)
    mean = np.array([[0.36, -0.48, 0.8]])
    _, _, at = sphere_grid(120, 60)
    got = smooth_density(mean, None, at, sigma)
    expected = 2 / sigma**2 * np.exp((at @ mean[0] - 1) / sigma**2)
    # A direction moves by up to half a voxel (1 degree in x, y and z) into the middle of its voxel.
    assert np.abs(got - expected).max() < 0.25 * expected.max()
    assert got.max() == pytest.approx(expected.max(), rel=0.15)


def test_uniform_directions_give_one_and_the_mean_is_one() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((200_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    _, lat, at = sphere_grid(60, 30)
    weight = np.diff(np.sin(lat))[:, None] / (60 * 2)
    got = smooth_density(points, None, at, np.radians(6))
    assert (got * weight).sum() == pytest.approx(1, abs=0.02)
    assert np.abs(got - 1).max() < 0.25 and got.std() < 0.06
    cap = points[points[:, 2] > 0.5]  # a quarter of the sphere
    got = smooth_density(cap, None, at, np.radians(6))
    assert (got * weight).sum() == pytest.approx(1, abs=0.03)
    assert got[at[..., 2] > 0.8].mean() == pytest.approx(4, abs=0.15)
    assert got[at[..., 2] < 0].max() < 0.01


def test_weights_give_a_weighted_density() -> None:
    points = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    got = smooth_density(points, np.array([3.0, 1.0]), points, 0.2)
    assert got[0] / got[1] == pytest.approx(3, rel=1e-5)


def test_bandwidth_narrows_with_the_number_of_particles() -> None:
    assert bandwidth(10**7) == pytest.approx(np.radians(3))
    assert bandwidth(1) == pytest.approx(np.radians(12))
    assert bandwidth(2500) == pytest.approx(0.1)
