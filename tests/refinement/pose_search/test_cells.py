"""Cells of poses: steps halve while the limit grows, centres fill a ball, peaks have no better neighbour."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.geometry.rotations import (
    from_rotation_vector,
    random_rotations,
)
from cryotorch.refinement.pose_search.cells import (
    Cells,
    Families,
    Level,
    corners,
    filled,
    levels,
    peaks,
)
from cryotorch.refinement.pose_search.local import ball_grid
from cryotorch.refinement.pose_search.search import (
    prepare_reference,
)
from cryotorch.refinement.settings import SearchExtent, SearchSettings


def test_levels_halve_and_reach_the_limit(simulate) -> None:
    world = simulate(2, 1.0)
    settings = SearchSettings(grid_step=0.2, coarse_limit=5)
    table = prepare_reference(world.volume, 10.5, settings, None, torch.float32)
    found = levels(table, settings)
    assert [level.limit for level in found] == [5, 9, 10.5]
    assert [level.turn for level in found] == pytest.approx([0.2, 0.1, 0.05])
    assert [level.move for level in found] == pytest.approx([1.2, 0.6, 0.3])
    low = levels(
        prepare_reference(world.volume, 5.0, settings, None, torch.float32),
        settings,
        SearchExtent((0.0, 0.0, 0.0), 0.01, 0.3),
    )
    assert [(level.limit, level.turn, level.move) for level in low] == [(5, 0.02, 0.6)]


def test_cells_fill_what_they_should() -> None:
    for radius in (0.04, 0.1, 0.23):
        step = min(0.1, 2 * radius)
        draw = torch.Generator().manual_seed(1)
        inside = torch.randn(2000, 3, generator=draw)
        inside *= radius * torch.rand(2000, 1, generator=draw) / inside.norm(dim=1, keepdim=True)
        centres = filled(ball_grid, radius, step, 3)
        # a place near the rim may lie outside all cubes, by little
        assert (inside[:, None] - centres).abs().amax(-1).amin(1).max() < 0.65 * step
    assert filled(ball_grid, 0.0, 0.0, 3).tolist() == [[0.0, 0.0, 0.0]]
    children = corners(3, 0.1)
    assert (
        len(children) == 8 and (children.abs() == 0.05).all() and children.sum(0).abs().max() == 0
    )
    assert len(corners(2, 0.0)) == 1


def test_peaks_are_the_cells_with_no_better_one_beside_them() -> None:
    at = Level(10, 0.1, 0.5)
    turn = torch.zeros(1, 6, 3)
    turn[0, :, 0] = torch.tensor([0.0, 0.1, 1.0, 1.1, 2.0, 2.0])
    offset = torch.zeros(1, 6, 2)
    offset[0, 5, 0] = 3.0
    score = torch.tensor([[9.0, 8, 7, 6, 5, 4]])
    cells = Cells(from_rotation_vector(turn), offset, score, torch.tensor([[True] * 6]))
    far = from_rotation_vector(torch.tensor([[0.0, 0, -1.0]]))
    known = (far, torch.zeros(1, 2), torch.tensor([7.5]))
    assert peaks(cells, at, *known).tolist() == [[True, False, True, False, True, True]]
    at_third = (from_rotation_vector(turn[:, 2]), torch.zeros(1, 2), torch.tensor([7.5]))
    assert peaks(cells, at, *at_third).tolist() == [[True, False, False, False, True, True]]
    dead = Cells(cells.rotation, offset, score, torch.tensor([[False] + [True] * 5]))
    assert peaks(dead, at, *known).tolist() == [[False, True, True, False, True, True]]


def test_families_without_a_cell_are_worth_nothing() -> None:
    score = torch.arange(12.0).view(3, 2, 2)
    image, slot = torch.tensor([0, 0, 2]), torch.tensor([0, 2, 1])
    found = Families(image, slot, random_rotations(6).view(3, 2, 3, 3), torch.zeros(3, 2, 2), score)
    table, family = found.table(3)
    assert table.shape == (3, 3, 2, 2) and torch.isinf(table).sum() == 6 * 4
    assert torch.equal(table[image, slot], score) and family[0, 2] == 1 and family[2, 1] == 2


def test_the_radius_of_a_cell_is_that_of_its_corners() -> None:
    cell = Level(10, 0.2, 0.6)
    assert cell.turn_radius == pytest.approx(float(corners(3, 0.2)[0].norm()))
    assert cell.move_radius == pytest.approx(float(corners(2, 0.6)[0].norm()))
