"""Masks: their values, and onto which grid they are brought."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.inputs.map_grid import Grid
from cryotorch.jobs.inputs.masks import check_mask, load_mask
from cryotorch.ops.masks.soft import soft_sphere


def test_masks_are_brought_onto_the_grid(tmp_path: Path) -> None:
    path, grid = tmp_path / "mask.mrc", Grid(16, 2.0)
    write_volume(path, soft_sphere(16, 4, 3), 2.0)
    mask, found = load_mask(path, grid)
    assert torch.equal(mask, soft_sphere(16, 4, 3)) and found == []
    write_volume(path, soft_sphere(24, 6, 4.5), 4 / 3)
    finer, _ = load_mask(path, grid)
    assert float((finer - soft_sphere(16, 4, 3)).abs().max()) < 0.1
    write_volume(path, (soft_sphere(16, 4, 0) > 0.5).float(), 2.0)
    assert codes(load_mask(path, grid)[1]) == ["mask_hard"]


@pytest.mark.parametrize(
    ("mask", "pixel", "said"),
    [
        (torch.zeros(16, 16, 16), 2.0, "is empty"),
        (2 * soft_sphere(16, 4, 3), 2.0, "values from 0 to 1, got 0 to 2"),
        (
            soft_sphere(24, 4, 3),
            0.0,
            "has 24 voxels per edge but the map has 16, and its header does",
        ),
    ],
)
def test_masks_that_cannot_be_used(tmp_path: Path, mask, pixel: float, said: str) -> None:
    write_volume(tmp_path / "mask.mrc", mask, pixel)
    with pytest.raises(InputError, match=said):
        load_mask(tmp_path / "mask.mrc", Grid(16, 2.0))


def test_what_values_a_mask_has() -> None:
    check_mask(torch.ones(4, 4, 4), "mask")
    with pytest.raises(InputError, match=r"mask reaches 0\.3 only, and a mask is 1 inside"):
        check_mask(0.3 * soft_sphere(16, 4, 3), "mask")
