"""Boxes that cannot fit are refused before memory is asked for."""

from __future__ import annotations

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.jobs.memory import BYTES_PER_VOXEL, memory_of, require_room

CPU = torch.device("cpu")


def test_the_largest_box_that_fits() -> None:
    box = int((memory_of(CPU) / BYTES_PER_VOXEL) ** (1 / 3))
    require_room(box - 1, CPU, "box_size=1")
    with pytest.raises(InputError, match=rf"box_size=9 cannot be used: maps of {box + 2} voxels"):
        require_room(box + 2, CPU, "box_size=9")
