"""The second body: its pose is that of the moved density, motions as stated, the hinge between the two, the phantom."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.geometry.rotations import (
    from_rotation_vector,
    random_rotations,
    to_rotation_vector,
)
from cryotorch.ops.models import two_body_phantom as two_bodies
from cryotorch.ops.models.gaussians import gaussian_density
from cryotorch.ops.models.two_body_phantom import (
    meeting_point,
    moved_poses,
    random_motions,
    two_body_atoms,
    two_body_phantom,
)


@pytest.fixture
def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_the_second_pose_shows_the_moved_body(seeded: torch.Generator) -> None:
    """Gaussians moved in space and seen in the first pose, against Gaussians at rest seen in the second."""
    n, box, pixel_size = 4, 40, 2.0
    position = 9 * torch.randn(6, 3, generator=seeded)
    weight, sigma = torch.rand(6, generator=seeded) + 0.5, torch.full((6,), 4.0)
    rotation, shift = random_rotations(n, seeded), 5 * torch.randn(n, 2, generator=seeded)
    turn, move = random_motions(n, math.radians(40), 6.0, seeded)
    hinge = torch.tensor([7.0, -4.0, 5.0])
    rotation2, shift2 = moved_poses(rotation, shift, turn, move, hinge)
    at_rest = gaussian_density(position, weight, sigma, box, pixel_size)
    images = project(at_rest, rotation2.float(), shift2.float() / pixel_size)
    for i in range(n):
        moved = (position - hinge) @ turn[i].float().T + hinge + move[i].float()
        volume = gaussian_density(moved, weight, sigma, box, pixel_size)
        (seen,) = project(volume, rotation[i : i + 1], shift[i : i + 1] / pixel_size)
        # interpolation between Fourier pixels costs a percent or two away from the middle
        assert float((images[i] - seen).norm() / seen.norm()) < 0.04
        assert float((images[i] - images[i - 1]).norm() / seen.norm()) > 0.3


def test_points_of_the_moved_body_are_seen_where_the_pose_says(seeded: torch.Generator) -> None:
    """u = (R (Q (x - h) + h + t))_xy - s is (R2 x)_xy - s2 for every x."""
    n = 30
    rotation, shift = random_rotations(n, seeded).double(), torch.randn(n, 2, generator=seeded)
    turn, move = random_motions(n, 1.5, 9.0, seeded)
    x, hinge = 50 * torch.randn(2, n, 3, generator=seeded, dtype=torch.float64)
    hinge = hinge[0]
    moved = (turn @ (x - hinge)[..., None])[..., 0] + hinge + move
    rotation2, shift2 = moved_poses(rotation, shift, turn, move, hinge)
    expected = (rotation @ moved[..., None])[:, :2, 0] - shift
    found = (rotation2 @ x[..., None])[:, :2, 0] - shift2
    assert torch.allclose(found, expected, atol=1e-9)


def test_without_a_shift_the_hinge_stays_where_it_is_seen(seeded: torch.Generator) -> None:
    rotation, shift = random_rotations(50, seeded), torch.randn(50, 2, generator=seeded)
    turn, _ = random_motions(50, 0.5, 0.0, seeded)
    hinge = torch.tensor([20.0, -30.0, 11.0], dtype=torch.float64)
    rotation2, shift2 = moved_poses(rotation, shift, turn, torch.zeros(50, 3), hinge)
    before, after = (
        (r.double() @ hinge)[:, :2] - s for r, s in ((rotation, shift), (rotation2, shift2))
    )
    assert torch.allclose(before, after, atol=1e-9)
    elsewhere = hinge + torch.tensor([10.0, 0.0, 0.0])
    apart = (rotation.double() - rotation2) @ (elsewhere - hinge)
    assert float(apart.norm(dim=1).mean()) > 1


def test_no_motion_changes_nothing(seeded: torch.Generator) -> None:
    rotation, shift = random_rotations(5, seeded), torch.randn(5, 2, generator=seeded)
    turn, move = random_motions(5, 0.0, 0.0, seeded)
    found = moved_poses(rotation, shift, turn, move, torch.tensor([9.0, 8.0, 7.0]))
    assert torch.allclose(found[0].float(), rotation) and torch.allclose(found[1].float(), shift)


def test_motions_are_uniform_in_the_ball(seeded: torch.Generator) -> None:
    """The share of amounts below f times the largest is f^3; directions have no preference."""
    n = 4000
    turn, move = random_motions(n, 0.3, 7.0, seeded)
    vector = to_rotation_vector(turn)
    for found, largest in ((vector, 0.3), (move, 7.0)):
        amount = found.norm(dim=1) / largest
        assert float(amount.max()) <= 1 + 1e-9
        rank = (torch.arange(n) + 0.5) / n
        # Kolmogorov and Smirnov: beyond 1.63 / sqrt(n) with a chance of 1 %
        assert float((amount.sort().values ** 3 - rank).abs().max()) < 1.63 / math.sqrt(n)
        # uniform in a ball: variance r^2 / 5 along each axis
        covariance = (found / largest).T.cov()
        assert torch.allclose(covariance, torch.eye(3).double() / 5, atol=0.02)
        assert float((found / largest).mean(0).norm()) < 0.03
    assert abs(float((vector * move).sum(1).mean())) < 0.03 * 0.3 * 7


def ball(box: int, centre: tuple[float, float, float], radius: float) -> Tensor:
    """(d, d, d) bool; centre (x, y, z) in voxels from the corner."""
    line = torch.arange(box, dtype=torch.float32)
    x, y, z = ((line - c).square() for c in centre)
    return (z[:, None, None] + y[:, None] + x).sqrt() <= radius


@pytest.mark.parametrize("gap", [-1, 0, 3, 20])
def test_bodies_meet_between_them(gap: float) -> None:
    """Two balls along x that overlap, touch, or are apart."""
    one, two = ball(60, (18, 30, 25), 9), ball(60, (18 + 9 + gap + 5, 30, 25), 5)
    expected = torch.tensor([18 + 9 + gap / 2, 30, 25], dtype=torch.float64)
    for found in (meeting_point(one, two), meeting_point(two, one)):
        assert float((found - expected).norm()) < 1


def test_a_body_without_density_is_refused() -> None:
    with pytest.raises(ValueError, match="both have density"):
        meeting_point(ball(16, (8, 8, 8), 4), torch.zeros(16, 16, 16, dtype=torch.bool))


@pytest.mark.parametrize(("edge", "size"), [(40.0, 0.6), (130.0, 0.9)])
def test_phantom_bodies_touch_and_fit(edge: float, size: float) -> None:
    first, second = two_body_atoms(edge, size, seed=1)
    design = max(edge, two_bodies.MIN_FOLDING_EDGE / (size * two_bodies.FIRST_BODY_SIZE))
    gap = float(torch.cdist(first.position, second.position).min()) * design / edge
    assert gap == pytest.approx(two_bodies.CLEARANCE, abs=1e-2)
    ratio = float(second.weight.sum() / first.weight.sum())
    assert ratio == pytest.approx(size**3, rel=0.4)
    for atoms in (first, second):
        assert float(atoms.position.norm(dim=1).max()) < 0.4 * edge
    centre = sum((a.position * a.weight[:, None]).sum(0) for a in (first, second))
    assert float((centre / (first.weight.sum() + second.weight.sum())).norm()) < 1e-3 * edge
    # the second sits on the first
    assert float(second.position[:, 2].mean()) > float(first.position[:, 2].quantile(0.9))


def test_phantom_bodies_share_grid_and_grey_scale() -> None:
    maps = two_body_phantom(32, 4.0, seed=1)
    atoms = two_body_atoms(128.0, seed=1)
    assert maps.shape == (2, 32, 32, 32)
    for volume, body in zip(maps, atoms, strict=True):
        assert float(volume.sum()) * 4**3 == pytest.approx(float(body.weight.sum()), rel=1e-3)
    overlap = (maps[0] * maps[1]).sum() / (maps[0].norm() * maps[1].norm())
    assert float(overlap) < 0.01
    assert torch.equal(maps, two_body_phantom(32, 4.0, seed=1))


def test_quarter_turns_of_the_placement_keep_the_shape() -> None:
    position = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    ways = [two_bodies._turned(position, trial) for trial in range(two_bodies.DOCKING_TRIALS)]
    for way in ways:
        assert torch.allclose(torch.cdist(way, way), torch.cdist(position, position), atol=1e-4)
    assert torch.allclose(ways[0], position)
    assert torch.allclose(ways[1], position * torch.tensor([1.0, -1.0, -1.0]), atol=1e-6)
    third = from_rotation_vector(torch.tensor([0.0, 0.0, math.pi / 3]))
    assert torch.allclose(ways[2], position @ third.T, atol=1e-6)
