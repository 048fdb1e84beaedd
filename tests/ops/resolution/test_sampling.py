"""Slices through points of a Fourier sphere, and the sampling compensation factor, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.geometry.directions import random_views
from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.resolution.sampling import sampling_compensation, slices_per_point

POINTS = fibonacci_directions(2000)[:1000]


def side_views(n: int) -> torch.Tensor:
    angle = 2 * math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.stack([angle.cos(), angle.sin(), torch.zeros(n, dtype=torch.float64)], 1)


def test_uniform_views_have_one() -> None:
    found = sampling_compensation(slices_per_point(POINTS, fibonacci_directions(20_000), 23))
    assert found.scf_star > 0.99
    assert found.mean == pytest.approx(20_000 / 46, rel=0.01)
    assert found.unsampled == 0


def test_side_views_have_eight_over_pi_squared() -> None:
    """s goes as 1 / sin(tilt): <s> = pi / 2, <1 / s> = pi / 4 in units of its least."""
    found = sampling_compensation(slices_per_point(POINTS, side_views(20_000), 500))
    assert found.scf_star == pytest.approx(8 / math.pi**2, abs=0.005)


def test_one_view_samples_the_equator_only() -> None:
    top = torch.tensor([[0.0, 0.0, 1.0]])
    slices = slices_per_point(POINTS, top, 10)
    assert torch.equal(slices == 1, POINTS[:, 2].abs() < 0.05)
    found = sampling_compensation(slices)
    assert found.unsampled == pytest.approx(0.95, abs=0.002)
    assert found.scf_star == pytest.approx(1 / (0.05 + 0.95 / 0.05), rel=0.05)


def test_the_published_form_of_the_factor_without_slices() -> None:
    """SCF' / (1 + n0 / (n - n0) <s> SCF' / 2) with SCF' = 1 / (<s> <1 / s> over the sampled)."""
    slices = torch.tensor([0, 0, 1, 2, 4, 8, 8, 3], dtype=torch.float64)
    mean = float(slices.mean())
    sampled = slices[slices > 0]
    plain = 1 / (mean * float((1 / sampled).mean()))
    wanted = plain / (1 + 2 / 6 * mean * plain / 2)
    found = sampling_compensation(slices)
    assert mean > 2 and found.scf_star == pytest.approx(wanted)
    assert (found.unsampled, found.mean) == (0.25, mean)
    assert sampling_compensation(torch.full((5,), 7.0)).scf_star == pytest.approx(1)


def test_preferred_views_score_worse_the_sharper_they_are() -> None:
    scores = []
    for concentration in (0, 2, 5, 20):
        draw = torch.Generator().manual_seed(1)
        views = random_views(3000, concentration, draw)[:, 2]
        scores.append(sampling_compensation(slices_per_point(POINTS, views, 23)).scf_star)
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.95 and scores[-1] < 0.2


@pytest.mark.parametrize("name", ["C4", "D3", "T"])
def test_symmetry_is_that_of_all_copies_of_the_views(name: str) -> None:
    group = point_group(name)
    views = random_views(40, 5, torch.Generator().manual_seed(2))[:, 2]
    seen: list[int] = []
    found = slices_per_point(POINTS, views, 23, group, seen.append)
    copies = torch.einsum("ni,gij->gnj", views.double(), group).reshape(-1, 3)
    assert torch.equal(found, slices_per_point(POINTS, copies, 23))
    assert sum(seen) == len(views) * len(group)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="radius must be at least"):
        slices_per_point(POINTS, side_views(4), 0.4)


def test_nothing_is_sampled_where_no_slice_passes() -> None:
    assert sampling_compensation(torch.zeros(5)) == (0, 1, 0)
