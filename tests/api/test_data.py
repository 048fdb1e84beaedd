"""Maps from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import cryotorch as ct


def test_a_map_comes_back(tmp_path: Path) -> None:
    volume = torch.arange(64.0).reshape(4, 4, 4)
    ct.write_map(tmp_path / "map.mrc", volume, 1.5)
    read = ct.read_map(tmp_path / "map.mrc")
    assert torch.equal(read.volume, volume) and read.pixel_size == 1.5


def test_a_map_without_pixel_size_is_refused(tmp_path: Path) -> None:
    ct.write_map(tmp_path / "map.mrc", torch.rand(4, 4, 4), 1.5)
    raw = bytearray((tmp_path / "map.mrc").read_bytes())
    raw[40:52] = bytes(12)  # the cell's edges
    (tmp_path / "map.mrc").write_bytes(raw)
    with pytest.raises(ct.InputError, match="does not state its pixel size"):
        ct.read_map(tmp_path / "map.mrc")
