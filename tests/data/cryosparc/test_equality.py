"""What counts as the same value after the rounding of the other format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryotorch.data.cryosparc.equality import one_to_one, same_angles, same_column, same_field
from cryotorch.data.table import Table

PATH = Path("x")


def test_poses_are_compared_as_rotations():
    """Two vectors of length pi, and of length 0.1 and 2 pi - 0.1, may be one rotation."""
    first = np.array([[np.pi, 0, 0], [0, 0, 0.1], [1, 0, 0], [1, 0, 0]])
    second = np.array([[-np.pi, 0, 0], [0, 0, 0.1 - 2 * np.pi], [1 + 5e-7, 0, 0], [1 + 5e-6, 0, 0]])
    assert same_field("alignments3D/pose", first, second, None).tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_angles_are_the_same_where_the_orientations_are():
    made = {"rlnAngleRot": [0.0, 0], "rlnAngleTilt": [0.0, 10], "rlnAnglePsi": [50.0, 50]}
    made = {label: np.array(values) for label, values in made.items()}
    kept = Table(
        {"rlnAngleRot": ["20", "20"], "rlnAngleTilt": ["0", "10"], "rlnAnglePsi": ["30", "30"]}
    )
    assert same_angles(made, kept, PATH).tolist() == [True, False]


def test_groups_are_the_same_where_they_divide_the_particles_alike():
    assert one_to_one(np.array([0, 0, 1]), np.array([7, 7, 3]))
    assert not one_to_one(np.array([0, 0, 1]), np.array([7, 3, 3]))
    assert not one_to_one(np.array([0, 0, 0]), np.array([7, 7, 3]))
    same = same_field("ctf/exp_group_id", np.array([0, 0, 1]), np.array([7, 3, 3]), None)
    assert not same.any()


def test_numbers_and_text():
    made, kept = np.float32([1e4, 1e4, 0]), np.float32([1e4 + 4e-3, 1e4 + 0.1, 5e-7])
    assert same_field("ctf/df1_A", made, kept, None).tolist() == [True, False, True]
    paths = np.array([b"a", b"b", b"c"]), np.array([b">a", b"b", b">d"])
    assert same_field("blob/path", *paths, None).tolist() == [True, True, False]
    shape = np.array([[4000, 5000]] * 2)  # whole pixels: 0.5 / 5000 = 1e-4
    made, kept = np.array([0.1, 0.1]), np.array([0.10009, 0.1002])
    assert same_field("location/center_x_frac", made, kept, shape).tolist() == [True, False]
    names = np.array([b"000001@a", b"000012@b", b"000001@c"])
    kept = Table({"rlnImageName": ["1@a", "0012@b", "c"]})
    assert same_column("rlnImageName", names, kept, PATH).all()
    kept = Table({"rlnImageName": ["2@a", "12@c", "d"]})
    assert not same_column("rlnImageName", names, kept, PATH).any()
    kept = Table({"x": ["158.42150", "1.0001"]})
    assert same_column("x", np.float32([158.4215, 1]), kept, PATH).tolist() == [True, False]
