"""Cells of views of one size, and their cap."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.jobs.curation.views import capped, cells
from cryotorch.ops.geometry.rotations import euler_to_matrix, matrix_to_euler, random_rotations
from cryotorch.ops.geometry.symmetry import point_group


def posed(make_list, rotation: torch.Tensor):
    angles = zip(("Rot", "Tilt", "Psi"), matrix_to_euler(rotation.double()), strict=True)
    columns = {f"rlnAngle{name}": np.rad2deg(angle.numpy()) for name, angle in angles}
    return make_list(len(rotation), **columns)


def test_uniform_views_fill_cells_alike(make_list) -> None:
    generator = torch.Generator().manual_seed(0)
    cell, count = cells(posed(make_list, random_rotations(6000, generator)), 30, "C1")
    size = np.bincount(cell, minlength=count)
    assert count == round(4 * np.pi / np.deg2rad(30) ** 2) == 46
    assert size.min() > 80 and size.max() < 190  # 130 each, and 11 of chance


def test_turns_in_the_plane_and_by_the_group_do_not_matter(make_list) -> None:
    rotation = random_rotations(40, torch.Generator().manual_seed(1)).double()
    turn = euler_to_matrix(torch.zeros(40), torch.zeros(40), torch.linspace(0, 6, 40)).double()
    group = point_group("D7")
    other = turn @ rotation @ group[torch.arange(40) % 14]
    first, count = cells(posed(make_list, rotation), 8, "D7")
    assert count == round(4 * np.pi / np.deg2rad(8) ** 2 / 14)
    assert (first == cells(posed(make_list, other), 8, "D7")[0]).mean() > 0.97
    assert (first == cells(posed(make_list, other), 8, "C1")[0]).mean() < 0.5


def test_the_best_of_each_cell_stay() -> None:
    cell = np.array([0, 0, 0, 0, 2, 2, 3])
    score = np.array([1.0, 4, 3, 2, 0, 5, 1])
    assert capped(cell, 2, score, 0)[0].tolist() == [False, True, True, False, True, True, True]
    stays, limit = capped(cell, "median", score, 0)  # of 4, 2 and 1
    assert limit == 2 and stays.sum() == 5
    drawn = [capped(cell, 1, None, seed)[0] for seed in range(8)]
    assert all(x.sum() == 3 for x in drawn) and len({x.tobytes() for x in drawn}) > 2
    assert np.array_equal(drawn[0], capped(cell, 1, None, 0)[0])


def test_without_poses_there_are_no_views(make_list) -> None:
    gone = dict.fromkeys(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"))
    with pytest.raises(InputError, match="has no poses"):
        cells(make_list(**gone), 10, "C1")
