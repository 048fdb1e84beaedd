"""Poses of all particles, and damaged images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import torch

from cryotorch.data.mrc import read_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star, write_star
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.ops.geometry.rotations import rotation_angle

PIXEL = 6.0


def test_every_particle_gets_its_pose(begun: Any) -> None:
    """Also those that the map was not made of: turned onto the true map, poses are the true ones."""
    truth = read_particles(begun.data / "truth.star").particles
    map_, _ = read_volume(begun.data / "truth.mrc")
    volume, found = begun.made.maps[0], begun.made.found.rotation
    if fit_map(volume, map_, PIXEL, 15.0).mirrored:
        flip = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
        volume, found = flip_hand(volume), flip @ found
    turn = fit_map(volume, map_, PIXEL, 15.0, hand="same").rotation.float()
    error = rotation_angle(found @ turn.mT, truth.rotation).rad2deg()
    assert float(error.median()) < 5
    assert float(error[begun.inputs.rest].median()) < 5
    assert float((error < 20).float().mean()) > 0.9


def test_damaged_images_are_named(begin: Callable, begun: Any, tmp_path: Path) -> None:
    """Blank, not finite and loud ones; and all of them get poses."""
    images = mrcfile.read(begun.data / "particles.mrcs").copy()
    images[3], images[8] = 0, 1e6 * images[8]
    with mrcfile.new(tmp_path / "particles.mrcs", images) as file:
        file.voxel_size = PIXEL
    with mrcfile.mmap(tmp_path / "particles.mrcs", "r+") as file:
        file.data[5, 3:6] = float("nan")
    table = read_star(begun.data / "particles.star")
    write_star(tmp_path / "particles.star", table)
    found = begin(tmp_path / "run", particles=str(tmp_path / "particles.star"))
    names = sorted(name.split("@")[0].lstrip("0") for name in found.summary["damaged_images"])
    assert names == ["4", "6", "9"]
    assert any("3 of 200 images look damaged" in said for said in found.summary["warnings"])
    assert bool(read_particles(found.out / "particles.star").particles.rotation.isfinite().all())


def test_contrast_that_should_have_been_inverted(
    begin: Callable, begun: Any, tmp_path: Path
) -> None:
    """It is said that there is no structure, and invert=true is named."""
    images = -mrcfile.read(begun.data / "particles.mrcs")
    with mrcfile.new(tmp_path / "particles.mrcs", images) as file:
        file.voxel_size = PIXEL
    write_star(tmp_path / "particles.star", read_star(begun.data / "particles.star"))
    given = dict(particles=str(tmp_path / "particles.star"))
    found = begin(tmp_path / "run", 6, 1, **given)
    assert "invert=true" in found.summary["warnings"][0]
    dark = begin(tmp_path / "dark", 6, 1, nonnegative=False, **given)
    assert any("protein is dark in it" in said for said in dark.summary["warnings"])
    right = begin(tmp_path / "right", 6, 1, invert=True, **given)
    assert right.summary["warnings"] == []
