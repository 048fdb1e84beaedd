"""A fit from tensors, and what it saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import cryotorch as ct
from cryotorch.ops.geometry.symmetry import move_volume, point_group, rotate_volume
from cryotorch.ops.models.phantom import phantom


@pytest.mark.drawn
def test_tensors_are_fitted_and_saved(tmp_path: Path) -> None:
    reference = phantom(32, 5.0, point_group("C1"))
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    found = ct.fit_map(rotate_volume(reference, turn), reference, 5.0, fit_resolution=15)
    assert torch.allclose(found.matrix, turn.T, atol=0.01) and not found.mirrored
    assert found.correlation > 0.99 and not found.warnings
    middle = torch.full((3,), 80.0).double()
    assert torch.allclose(found.translation, middle - found.matrix @ middle, atol=0.3)
    moved = move_volume(
        rotate_volume(reference, turn),
        5.0,
        found.found.found.rotation,
        found.found.found.shift,
        32,
        5.0,
    )
    assert torch.allclose(found.map, moved)
    told = json.loads((found.save(tmp_path / "out") / "fit.json").read_text())
    assert told["moved"] == "volume" and told["onto"] == "fit"
    assert (tmp_path / "out/slices.png").stat().st_size > 1000
