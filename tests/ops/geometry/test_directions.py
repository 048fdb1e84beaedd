"""Random views: their distribution in closed form. Evenly spaced ones: number, gaps, one of every orbit."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.geometry.directions import even_views, ideal_gap, largest_gap, random_views
from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.ops.geometry.symmetry import in_asymmetric_unit, point_group


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


@pytest.mark.parametrize("symmetry", ["C1", "C4", "D7", "T", "O", "I", "I3"])
@pytest.mark.parametrize("n", [1, 7, 50])
def test_even_views_are_n_of_the_asymmetric_unit(symmetry: str, n: int) -> None:
    group = point_group(symmetry)
    view = even_views(n, group)
    assert view.shape == (n, 3)
    assert torch.allclose(view.norm(dim=1), torch.ones(n, dtype=torch.float64))
    assert in_asymmetric_unit(view, group).all()
    assert view[:, 2].diff().le(0).all()
    if (
        n == 50
    ):  # hexagons everywhere do not exist on a sphere; a Fibonacci sphere has 1.2, cut to a unit 1.5
        gap, ideal = largest_gap(view, group), ideal_gap(n, len(group))
        assert ideal < gap < 1.2 * ideal


def test_largest_gap_is_that_of_all_copies() -> None:
    """Against every pair of 20,000 directions and all copies; a polyhedron's in closed form."""
    group = point_group("D3")
    view = even_views(10, group)
    direction = fibonacci_directions(20_000)
    copies = (group @ view.T).movedim(1, -1).flatten(0, 1)
    angle = torch.acos((direction @ copies.T).amax(1).clamp(-1, 1))
    assert largest_gap(view, group) == pytest.approx(float(angle.max()), rel=0.02)
    pole = torch.tensor(
        [[0.0, 0.0, 1.0]], dtype=torch.float64
    )  # with O: the six corners of an octahedron
    assert largest_gap(pole, point_group("O")) == pytest.approx(math.acos(1 / 3**0.5), rel=0.05)


def test_ideal_gap_is_that_of_hexagons() -> None:
    """n hexagons of corner radius r cover n (3 sqrt 3 / 2) r^2 = 4 pi / order."""
    r = ideal_gap(50, 4)
    assert 50 * 4 * 1.5 * 3**0.5 * r**2 == pytest.approx(4 * math.pi)


def test_even_views_keep_opposite_directions_and_are_the_same_every_time() -> None:
    view = even_views(40, point_group("C1"))
    assert (view[:, 2] > 0.2).sum() > 12 and (view[:, 2] < -0.2).sum() > 12
    assert torch.equal(view, even_views(40, point_group("C1")))
    with pytest.raises(ValueError, match="At least one view"):
        even_views(0, point_group("C1"))
