from __future__ import annotations

import numpy as np
import torch

from cryotorch.report.bild import fibonacci_sphere, orientation_bild


def test_spiral_is_even() -> None:
    points = fibonacci_sphere(500)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    np.testing.assert_allclose(points.mean(0), 0, atol=0.003)
    np.testing.assert_allclose(points.T @ points / 500, np.eye(3) / 3, atol=0.003)


def test_cylinders_stand_on_the_directions_in_map_coordinates() -> None:
    rotation = torch.eye(3).repeat(30, 1, 1).numpy()
    rotation[20:] = np.diag([1.0, -1.0, -1.0])  # ten particles seen from below
    lines = orientation_bild(rotation, 64, 2.0, 50.0).splitlines()
    assert [line.split()[0] for line in lines] == [".color", ".cylinder"] * 2
    up, down = (np.array(line.split()[1:], float) for line in lines[1::2])
    # The box centre is voxel 32 of 2 Å.
    np.testing.assert_allclose(up[:6], [64, 64, 114, 64, 64, 139], atol=3)
    np.testing.assert_allclose(down[:6], [64, 64, 14, 64, 64, 14 - 12.5], atol=3)
    assert lines[0] == ".color 1.000 0.2 0.000"
