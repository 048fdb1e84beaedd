"""Rotations against SciPy, closed forms and the definition of uniform."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryotorch.ops.geometry.rotations import (
    euler_to_matrix,
    fibonacci_directions,
    from_rotation_vector,
    matrix_to_euler,
    random_rotations,
    rotation_angle,
    rotation_grid,
    to_rotation_vector,
)
from cryotorch.ops.geometry.symmetry import in_asymmetric_unit, point_group

ANGLE = st.floats(-math.pi, math.pi)


def turn(*angles: float) -> torch.Tensor:
    return euler_to_matrix(*torch.tensor(angles, dtype=torch.float64))


@given(ANGLE, ANGLE, ANGLE)
@settings(max_examples=100, deadline=None)
def test_euler_angles_are_intrinsic_zyz_turned_round(rot: float, tilt: float, psi: float) -> None:
    expected = Rotation.from_euler("ZYZ", [rot, tilt, psi]).as_matrix().T
    np.testing.assert_allclose(turn(rot, tilt, psi), expected, atol=1e-12)


def test_euler_angles_by_hand() -> None:
    """rot = 90 degrees takes the reference's y axis to the particle's x; tilt = 90 its z axis to -x."""
    quarter = math.pi / 2
    x, y, z = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(turn(quarter, 0, 0) @ y, x, atol=1e-12)
    assert torch.allclose(turn(0, quarter, 0) @ z, -x, atol=1e-12)
    assert torch.allclose(turn(0, 0, quarter) @ y, x, atol=1e-12)


@given(ANGLE, st.sampled_from([0.0, 1e-9, math.pi]) | st.floats(0, math.pi), ANGLE)
@settings(max_examples=200, deadline=None)
def test_euler_angles_come_back(rot: float, tilt: float, psi: float) -> None:
    """As a rotation, everywhere; as angles, away from the poles, where only a sum counts."""
    matrix = turn(rot, tilt, psi)
    back = matrix_to_euler(matrix)
    assert 0 <= back[1] <= math.pi
    assert torch.allclose(euler_to_matrix(*back), matrix, atol=1e-6)
    if 0.01 < tilt < math.pi - 0.01:
        for found, given_angle in zip(back, (rot, tilt, psi)):
            assert math.cos(float(found) - given_angle) == pytest.approx(1, abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.floats(0, math.pi))
@settings(max_examples=200, deadline=None)
def test_rotation_vectors_are_the_matrix_exponential(axis: list[float], angle: float) -> None:
    axis = torch.tensor(axis, dtype=torch.float64)
    if axis.norm() < 1e-3:
        return
    vector = axis / axis.norm() * angle
    matrix = from_rotation_vector(vector)
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), atol=1e-8)
    back = to_rotation_vector(matrix)
    assert back.norm() <= math.pi + 1e-9
    # at half a turn both signs of the axis are right
    assert torch.allclose(from_rotation_vector(back), matrix, atol=1e-8)
    if angle < 3.1:
        assert torch.allclose(back, vector, atol=1e-6)


@pytest.mark.parametrize("angle", [1e-13, 1e-9, 1e-5, 5e-4, 9.9e-4, 1.01e-3, 0.01])
def test_small_rotation_vectors_are_exact_too(angle: float) -> None:
    """On both sides of 0.001 rad, below which a series stands for sin(x) / x: what it leaves out is x^4 / 120."""
    vector = angle * torch.nn.functional.normalize(torch.tensor([1.0, -2, 3]).double(), dim=0)
    matrix = from_rotation_vector(vector)
    # cos of a small angle is 1 in double precision: the identity is taken off by hand
    k = torch.linalg.cross(vector.expand(3, 3), torch.eye(3).double(), dim=1).T
    expected = k * math.sin(angle) / angle + k @ k * 2 * math.sin(angle / 2) ** 2 / angle**2
    assert (matrix - torch.eye(3).double() - expected).abs().max() < 1e-14 * max(1, angle / 1e-3)
    assert (to_rotation_vector(matrix) - vector).abs().max() < 1e-6 * angle


def test_leading_dimensions_are_kept() -> None:
    """Also where the largest element of the quaternion differs from one to the next."""
    rotation = random_rotations(30, torch.Generator().manual_seed(6)).double()
    many = rotation.reshape(5, 2, 3, 3, 3)
    vectors = to_rotation_vector(many)
    angles = torch.stack(matrix_to_euler(many), -1)
    assert vectors.shape == angles.shape == (5, 2, 3, 3)
    for one, vector, angle in zip(rotation, vectors.view(-1, 3), angles.view(-1, 3)):
        assert torch.equal(to_rotation_vector(one), vector)
        assert torch.equal(torch.stack(matrix_to_euler(one)), angle)
    assert torch.allclose(from_rotation_vector(vectors), many, atol=1e-6)
    assert torch.allclose(euler_to_matrix(*angles.unbind(-1)), many, atol=1e-6)


def test_rotation_vectors_have_a_derivative_at_zero() -> None:
    vector = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(from_rotation_vector(vector)[1, 0], vector)
    assert torch.equal(gradient, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("degrees", [0.01, 1, 90, 179, 180])
def test_angle_between_rotations(degrees: float) -> None:
    first = random_rotations(50, torch.Generator().manual_seed(1))
    axis = torch.nn.functional.normalize(
        torch.randn(50, 3, generator=torch.Generator().manual_seed(2)), dim=1
    )
    second = from_rotation_vector(axis * math.radians(degrees)) @ first
    found = rotation_angle(first, second).rad2deg()
    # float32 matrices: 1e-7 of a chord; near half a turn its square root counts
    tolerance = 1e-4 if degrees < 175 else 0.1
    assert (found - degrees).abs().max() < tolerance


def test_random_rotations_are_uniform_and_repeatable() -> None:
    rotation = random_rotations(20000, torch.Generator().manual_seed(3)).double()
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(
        torch.linalg.det(rotation), torch.ones(20000, dtype=torch.float64), atol=1e-6
    )
    assert torch.equal(rotation, random_rotations(20000, torch.Generator().manual_seed(3)).double())
    assert rotation.mean(0).abs().max() < 0.02
    # Haar measure: every element is uniform on [-1, 1] (mean square 1/3), and the mean angle is pi/2 + 2/pi
    assert (rotation.square().mean(0) - 1 / 3).abs().max() < 0.01
    quantiles = rotation[:, 2, 2].quantile(
        torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
    )
    assert torch.allclose(
        quantiles, torch.tensor([-0.8, -0.5, 0, 0.5, 0.8], dtype=torch.float64), atol=0.03
    )
    angle = rotation_angle(rotation, torch.eye(3, dtype=torch.float64))
    assert angle.mean() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.01)


@pytest.mark.parametrize("n", [50, 1000])
def test_directions_are_evenly_spaced(n: int) -> None:
    view = fibonacci_directions(n)
    assert torch.allclose(view.norm(dim=1), torch.ones(n, dtype=torch.float64))
    assert view.mean(0).norm() < 0.5 / n**0.5
    gap = torch.cdist(view, view).fill_diagonal_(9).amin(1)
    spacing = math.sqrt(4 * math.pi / n)
    assert 0.7 * spacing < gap.min() and gap.max() < 1.1 * spacing


@pytest.mark.parametrize("symmetry", ["C1", "D2"])
def test_the_rotation_grid_covers_every_rotation(symmetry: str) -> None:
    """Nothing lies farther than a step from the grid or a symmetric copy, and little more points than needed."""
    step, group = math.radians(20), point_group(symmetry)
    rotation = rotation_grid(step, lambda view: in_asymmetric_unit(view, group))
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3), atol=1e-5)
    assert len(rotation) == pytest.approx(8 * math.pi**2 / step**3 / len(group), rel=0.1)
    wanted = random_rotations(300, torch.Generator().manual_seed(5))
    copies = wanted[:, None] @ group.float()
    gap = rotation_angle(copies[:, :, None], rotation).amin((1, 2))
    assert gap.max() < step and gap.median() < 0.6 * step
