"""Places in voxels and in the coordinates of atomic models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import read_header, read_volume

PX = 2.0


def test_coordinates_in_angstrom_are_those_of_chimerax(
    tmp_path, edit: Callable, radius: Callable, off_centre: Callable, refused: Callable
) -> None:
    source = off_centre(tmp_path, "in.mrc", 40, (-40, 7, 12))
    erased, summary = edit(
        tmp_path / "a", volume=source, coordinates="angstrom", erase=[-8, 47, 60, 10]
    )
    expected = torch.where(radius(40, (16, 20, 24)) <= 5, 0.0, read_volume(source)[0])
    assert torch.equal(erased, expected)
    said = "Erased 1 sphere: radius 5 voxels = 10 Å about (16, 20, 24) voxels = (-8, 47, 60) Å"
    assert said in summary["steps"]
    mask, _ = edit(
        tmp_path / "b", volume=source, threshold=0.5, coordinates="angstrom",
        segment__method="components", segment__points=[-8, 47, 60],
    )  # fmt: skip
    assert bool(mask[24, 20, 16])
    assert read_header(tmp_path / "b" / "segments.mrc").corner == pytest.approx((-40, 7, 12))
    message = refused(tmp_path, volume=source, coordinates="angstrom", erase=[300, 7, 12, 5])
    assert (
        "(170, 0, 0) lies outside the box" in message and "which lies at (-40, 7, 12) Å" in message
    )


def test_spheres_in_voxels_and_in_angstrom(
    volumes: Path, tmp_path: Path, edit: Callable, radius: Callable
) -> None:
    volume, _ = read_volume(volumes / "balls.mrc")
    place, source = radius(40, (13, 20, 20)), f"{volumes}/balls.mrc"
    erased, _ = edit(tmp_path / "a", volume=source, erase=[[13, 20, 20, 7]])
    kept, _ = edit(tmp_path / "b", volume=source, keep=[26, 40, 40, 14], coordinates="angstrom")
    assert torch.equal(erased, torch.where(place <= 7, 0.0, volume))
    assert torch.equal(kept, torch.where(place <= 7, volume, 0.0))
    soft, _ = edit(tmp_path / "c", volume=source, erase=[13, 20, 20, 7], sphere_edge="4px")
    assert float(soft[20, 20, 13 - 9]) == pytest.approx(0.5 * float(volume[20, 20, 4]))
