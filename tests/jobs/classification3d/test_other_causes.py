"""Classes that are no states: one map at two poses, and what differs between micrographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cryotorch.data.particle_file import ParticleFile, read_particles
from cryotorch.data.table import Table
from cryotorch.jobs import simulate
from cryotorch.jobs.classification3d.other_causes import (
    beyond_chance,
    goes_with,
    lacking,
    move_between,
)
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.ops.geometry.symmetry import move_volume
from cryotorch.ops.models.phantom import phantom

BOX, PIXEL, N = 32, 4.0, 40


def halves(volume: Tensor, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return volume / volume.std() + 0.3 * torch.randn(2, BOX, BOX, BOX, generator=draw)


@pytest.fixture(scope="module")
def molecules() -> list[Tensor]:
    return [phantom(BOX, PIXEL, torch.eye(3)[None], seed, 2.5 * PIXEL) for seed in (0, 1)]


def test_a_map_at_another_pose_is_told_with_its_move(molecules: list[Tensor]) -> None:
    turn = from_rotation_vector(torch.tensor([0.0, 0.0, 1.2]))
    turned = move_volume(molecules[0], PIXEL, turn, torch.tensor([6.0, 0, 0]), BOX, PIXEL)
    found = move_between(halves(molecules[0], 0), halves(turned, 1), PIXEL)
    assert found is not None
    assert found.angle == pytest.approx(np.rad2deg(1.2), abs=1)
    # what lay at x is at R x + t, and goes back by -R^T t
    assert found.shift == pytest.approx(6, abs=1)


def test_another_molecule_is_no_move(molecules: list[Tensor]) -> None:
    first, second = (halves(one, seed) for seed, one in enumerate(molecules))
    assert float(lacking(first, second).max()) > 0.5
    assert move_between(first, second, PIXEL) is None
    # a body that moves against the rest
    front = (torch.arange(BOX) < BOX // 2).float()[:, None, None]
    turn = from_rotation_vector(torch.tensor([0.0, 0.0, 0.6]))
    turned = move_volume(molecules[0] * front, PIXEL, turn, torch.zeros(3), BOX, PIXEL)
    bent = turned + molecules[0] * (1 - front)
    assert move_between(first, halves(bent, 2), PIXEL) is None


def test_flat_maps_are_no_move() -> None:
    assert move_between(torch.zeros(2, 16, 16, 16), torch.zeros(2, 16, 16, 16), PIXEL) is None


def test_chance_is_zero_on_average_and_a_division_by_group_is_not() -> None:
    draw = torch.Generator().manual_seed(0)
    group, label = torch.arange(600) % 3, torch.randint(0, 2, (600,), generator=draw)
    assert abs(beyond_chance(label, group, 0)) < 3
    # chi squared 600 * 0.16 of a table with 2 degrees of freedom, whose standard deviation is 2
    shares = torch.tensor([0.5, 0.99, 0.01])
    biased = (torch.rand(600, generator=draw) < shares[group]).long()
    assert beyond_chance(biased, group, 0) > 100
    assert beyond_chance(label, torch.zeros(600).long(), 0) == 0


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> ParticleFile:
    out = tmp_path_factory.mktemp("data") / "set"
    few = dict(box_size=16, pixel_size=8.0, n_particles=N, snr=1.0)
    return read_particles(
        simulate.run(make_settings("simulate", out=str(out), **few)) / "truth.star"
    )


def test_classes_that_go_with_micrographs_are_told(file: ParticleFile) -> None:
    label = (torch.arange(N) < N // 2).long()
    assert goes_with(label, file, 0) == []
    names = np.array([f"{i // 5}.mrc" for i in range(N)], dtype="S")
    rows = file.tables["particles"].copy()
    rows["rlnMicrographName"] = names
    assert isinstance(rows, Table)
    file.tables["particles"] = rows
    (found,) = goes_with(label, file, 0)
    assert found.code == "classes_go_with" and found["what"] == "micrographs"
    assert float(str(found["lead"])) > 5 and found.serious
    assert goes_with(torch.arange(N) % 2, file, 0) == []
