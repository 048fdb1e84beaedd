"""Random views: their distribution in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.views import random_views


def test_uniform_views_are_uniform_on_the_sphere() -> None:
    rotation = random_views(20_000, 0.0, torch.Generator().manual_seed(0))
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(20_000), atol=1e-5)
    for row in rotation.unbind(1):  # each row is a uniform unit vector: mean 0, covariance 1/3
        assert float(row.mean(0).abs().max()) < 4 * (1 / 3 / 20_000) ** 0.5
        assert torch.allclose(row.T @ row / 20_000, torch.eye(3) / 3, atol=0.01)


@pytest.mark.parametrize("concentration", [0.5, 5.0, 50.0])
def test_preferred_views_have_the_mean_of_von_mises_and_fisher(concentration: float) -> None:
    """<cos tilt> = coth(kappa) - 1 / kappa, about the z axis, with any angle in the plane."""
    rotation = random_views(20_000, concentration, torch.Generator().manual_seed(1))
    view = rotation[:, 2]  # R^T z
    expected = 1 / math.tanh(concentration) - 1 / concentration
    assert float(view[:, 2].mean()) == pytest.approx(expected, abs=0.02 / (1 + concentration))
    assert float(view[:, :2].mean(0).abs().max()) < 0.02
    assert float(rotation[:, :2, :2].mean(0).abs().max()) < 0.02


def test_same_seed_same_views_and_negative_is_refused() -> None:
    one, two, other = (
        random_views(5, 3.0, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    )
    assert torch.equal(one, two)
    assert not torch.allclose(one, other)
    with pytest.raises(ValueError, match="must not be negative"):
        random_views(5, -1.0)
