"""Gaussians in two dimensions that are found again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.ops.gaussian_mixture import fit_gaussians


def drawn(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points (n, 2), 30 % of them about (0, 0), the others, slanted, about (3, 1); and which are of the first."""
    draw = torch.Generator().manual_seed(seed)
    first = torch.rand(n, generator=draw) < 0.3
    white = torch.randn(n, 2, generator=draw, dtype=torch.float64)
    slanted = white @ torch.tensor([[1.0, 0.5], [0.0, 0.3]], dtype=torch.float64)
    other = slanted + torch.tensor([3.0, 1.0], dtype=torch.float64)
    return torch.where(first[:, None], 0.5 * white, other), first


def halves(points: Tensor) -> Tensor:
    low = points[:, 0] < points[:, 0].median()
    return 0.05 + 0.9 * torch.stack([low, ~low], 1).double()


def test_two_slanted_groups_are_found_again() -> None:
    points, first = drawn(6000)
    found = fit_gaussians(points, halves(points))
    assert found.weight.tolist() == pytest.approx([0.3, 0.7], abs=0.02)
    assert found.mean.flatten().tolist() == pytest.approx([0, 0, 3, 1], abs=0.05)
    expected = [0.25, 0, 0, 0.25, 1, 0.5, 0.5, 0.34]
    assert found.covariance.flatten().tolist() == pytest.approx(expected, abs=0.06)
    of_first = found.log_joint(points).softmax(1)[:, 0]
    assert float(((of_first > 0.5) == first).double().mean()) > 0.97
    # of points with 0.3, 30 % are of it
    for low in (0.1, 0.5):
        some = (of_first > low) & (of_first < low + 0.4)
        assert float(first[some].double().mean()) == pytest.approx(
            float(of_first[some].mean()), abs=0.12
        )


def test_the_density_is_that_of_a_gaussian() -> None:
    points, _ = drawn(500)
    one = fit_gaussians(points, torch.ones(500, 1, dtype=torch.float64))
    normal = torch.distributions.MultivariateNormal(one.mean[0], one.covariance[0])
    torch.testing.assert_close(one.log_joint(points)[:, 0], normal.log_prob(points))
    assert one.log_likelihood == pytest.approx(float(normal.log_prob(points).sum()))


def test_the_criterion_counts_what_is_fitted() -> None:
    """Two groups are preferred where there are two, one where there is one: ten times out of ten."""
    for seed in range(10):
        points, first = drawn(600, seed)
        for some, two in ((points, True), (points[~first], False)):
            one = fit_gaussians(some, torch.ones(len(some), 1, dtype=torch.float64))
            pair = fit_gaussians(some, halves(some))
            assert (pair.criterion < one.criterion) is two


def test_points_on_a_line_have_a_width() -> None:
    points = torch.stack([torch.arange(20.0).double(), torch.ones(20).double()], 1)
    assert torch.isfinite(fit_gaussians(points, halves(points)).log_joint(points)).all()
