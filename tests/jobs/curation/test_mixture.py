"""Gaussians that are found again."""

from __future__ import annotations

import numpy as np
import pytest

from cryotorch.jobs.curation.mixture import fit_mixture


@pytest.fixture
def values() -> tuple[np.ndarray, np.ndarray]:
    """30 % about 0.5, 70 % about 1.2."""
    draw = np.random.default_rng(0)
    first = draw.random(6000) < 0.3
    return np.where(first, draw.normal(0.5, 0.1, 6000), draw.normal(1.2, 0.15, 6000)), first


def test_two_groups_are_told_apart(values) -> None:
    value, first = values
    found = fit_mixture(value, 2)
    assert np.allclose(found.mean, [0.5, 1.2], atol=0.01)
    assert np.allclose(found.sigma, [0.1, 0.15], atol=0.006)
    assert np.allclose(found.weight, [0.3, 0.7], atol=0.02)
    # where the two densities cross 0.6 % of the particles lie on the wrong side
    assert (found.component(value) == ~first).mean() > 0.99
    assert found.gain > 0.1


def test_one_group_is_not_said_to_be_two() -> None:
    for seed in range(5):
        value = np.random.default_rng(seed).normal(1, 0.2, 2000)
        assert fit_mixture(value, 2).gain < 0


def test_a_fit_is_a_maximum(values) -> None:
    """The likelihood falls whichever way the Gaussians are moved."""
    value, _ = values
    found = fit_mixture(value, 2)

    def likelihood(mean: np.ndarray, sigma: np.ndarray) -> float:
        z = (value[:, None] - mean) / sigma
        return np.log((found.weight / sigma * np.exp(-(z**2) / 2)).sum(1)).sum()

    best = likelihood(found.mean, found.sigma)
    for step in ([0.02, 0], [0, 0.02], [-0.02, 0], [0, -0.02]):
        assert likelihood(found.mean + step, found.sigma) < best - 1
        assert likelihood(found.mean, found.sigma + step) < best - 1


def test_too_few_values() -> None:
    with pytest.raises(ValueError, match="2 different values for 2"):
        fit_mixture(np.array([1.0, 1.0, 2.0]), 2)
