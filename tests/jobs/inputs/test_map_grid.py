"""Where a map lies by its header, and what is brought where; ``tests/jobs/volume`` has it from file to file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.jobs.inputs.map_grid import (
    Grid,
    apart,
    believable,
    between,
    bring,
    grid_of,
    how,
    point_text,
)
from cryotorch.ops.masks.soft import soft_sphere

BALL = soft_sphere(32, 5, 2)
ZERO = (0.0, 0.0, 0.0)


def test_a_grid_is_that_of_the_header(tmp_path: Path) -> None:
    write_volume(tmp_path / "m.mrc", torch.ones(8, 10, 12), 2.0, (-4.0, 0.0, 6.0))
    grid = grid_of(tmp_path / "m.mrc", 2.0)
    assert (grid.box, grid.pixel_size, grid.stated) == (12, 2.0, True)
    assert grid.corner[0] == pytest.approx(-4) and grid_of(tmp_path / "m.mrc", 3.0).pixel_size == 3
    write_volume(tmp_path / "bare.mrc", torch.ones(8, 8, 8), 2.0)
    assert not grid_of(tmp_path / "bare.mrc", 2.0).stated


def test_middles_and_what_is_centred() -> None:
    assert Grid(32, 2.0, (-30.0, 0.0, 4.0)).middle == (2.0, 32.0, 36.0)
    assert Grid(33, 2.0, (-32.0, -30.0, -34.0)).centred  # to a voxel
    assert not Grid(33, 2.0, (-32.0, -29.0, -32.0)).centred
    assert Grid(32, 2.0).samples_like(Grid(32, 2.001, (5.0, 0, 0)))
    assert not Grid(32, 2.0).samples_like(Grid(32, 2.01))
    assert not Grid(32, 2.0).samples_like(Grid(33, 2.0))


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (Grid(32, 2.0), Grid(40, 2.0), ZERO),  # nobody says anything
        (Grid(20, 2.0, (10.0, 0.0, 0.0), True), Grid(32, 2.0, ZERO, True), (-2.0, -12.0, -12.0)),
        (Grid(20, 2.0, (10.0, 0.0, 0.0), True), Grid(32, 2.0), (-2.0, -12.0, -12.0)),  # cut out
        (Grid(32, 2.0, (10.0, 0.0, 0.0), True), Grid(32, 2.0), ZERO),  # one sampling
        (Grid(20, 2.0, (-20.0, -20.0, -20.0), True), Grid(32, 2.0), ZERO),  # a convention
    ],
)
def test_how_far_apart_headers_say_two_maps_are(own: Grid, other: Grid, expected) -> None:
    assert apart(own, other) == expected
    # places in Å, whatever is stated
    mine, theirs = own.middle, other.middle
    assert between(own, other) == tuple(a - b for a, b in zip(mine, theirs, strict=True))


def test_rounding_is_no_distance() -> None:
    assert between(Grid(32, 2.0, (0.019, 0.0, 0.0)), Grid(32, 2.0)) == ZERO
    assert between(Grid(32, 2.0, (0.03, 0.0, 0.0)), Grid(32, 2.0))[0] == pytest.approx(0.03)


def test_a_map_is_moved_by_whole_voxels_and_says_what_it_loses() -> None:
    own, grid = Grid(32, 2.0), Grid(40, 2.0)
    moved, warning = bring(BALL, own, grid, (6.0, 0.0, -4.0), "volume=a")
    expected = torch.nn.functional.pad(BALL, [4] * 6).roll((-2, 3), (0, 2))
    assert torch.allclose(moved, expected, atol=1e-5) and warning is None
    same, warning = bring(BALL, own, own, ZERO, "volume=a")
    assert same is BALL and warning is None
    _, cut = bring(BALL, own, own, (26.0, 0.0, 0.0), "volume=a")
    # 13 voxels towards the face: its half in front of 3 voxels past the middle is left
    assert cut.code == "density_cut" and 0.1 < cut["part"] < 0.3
    with pytest.raises(
        InputError, match=r"volume=a lies \(40, 0, 0\) Å from the middle .*center=true"
    ):
        bring(BALL, own, own, (40.0, 0.0, 0.0), "volume=a")


def test_what_is_said_of_it() -> None:
    own, grid = Grid(32, 2.0), Grid(40, 1.5)
    assert how(own, grid, ZERO) == (
        "resampled from 32 voxels per edge of 2 Å to 40 voxels per edge of 1.5 Å, middle on middle"
    )
    assert how(own, own, (6.0, 0.0, -4.5)).endswith(
        "(6, 0, -4.5) Å from the middle, as its header says"
    )
    assert point_text((1.23456, -2.0, 1e6)) == "(1.235, -2, 1e+06)"


@pytest.mark.parametrize(("box", "fits"), [(49, False), (50, True), (200, True), (201, False)])
def test_one_angstrom_is_believed_where_the_box_is_about_as_wide(box: int, fits: bool) -> None:
    assert believable(box, 100.0) == fits
