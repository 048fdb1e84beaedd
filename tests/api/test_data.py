"""Maps from files."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
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


@pytest.mark.parametrize(
    "volume",
    [
        np.arange(60.0).reshape(3, 4, 5)[::-1],
        np.arange(64, dtype=">i2").reshape(4, 4, 4),
        torch.arange(64).reshape(4, 4, 4).bfloat16(),
        torch.rand(4, 4, 4).requires_grad_(),
        torch.ones(4, 4, 4, dtype=torch.bool),
    ],
)
def test_any_real_numbers_are_written(tmp_path: Path, volume) -> None:
    ct.write_map(tmp_path / "map.mrc", volume, np.float32(1.5))
    with mrcfile.open(tmp_path / "map.mrc") as file:
        values = volume if isinstance(volume, np.ndarray) else volume.detach().float().numpy()
        assert np.array_equal(file.data, values) and file.voxel_size.x == 1.5


@pytest.mark.parametrize(
    ("volume", "size", "said"),
    [
        (torch.rand(4, 4), 1.0, r"volume must be a map \(z, y, x\), got \(4, 4\)"),
        (torch.rand(2, 4, 4, 4), 1.0, "must be a map"),
        (torch.rand(0, 4, 4), 1.0, "must be a map"),
        (torch.rand(4, 4, 4) + 1j, 1.0, "has complex numbers"),
        (np.ones((4, 4, 4)) * 1j, 1.0, "of the type ndarray complex128"),
        (torch.full((4, 4, 4), torch.nan), 1.0, "not finite"),
        (None, 1.0, "of the type NoneType"),
        (torch.rand(4, 4, 4), None, "add pixel_size"),
        (torch.rand(4, 4, 4), 0, "pixel_size=0 cannot be used"),
        (torch.rand(4, 4, 4), [1.0], "pixel_size is of the type list"),
        (ct.Map(torch.rand(4, 4, 4), 2.0), 1.0, "is a Map of 2.0 Å per pixel, not 1.0"),
    ],
)
def test_what_is_no_map_is_not_written(tmp_path: Path, volume, size, said: str) -> None:
    with pytest.raises(ct.InputError, match=said):
        ct.write_map(tmp_path / "map.mrc", volume, size)
    assert not list(tmp_path.iterdir())


def test_what_is_no_file_name_and_no_rows(folder: Path) -> None:
    for call in (ct.read_map, ct.read_particles, lambda path: ct.write_map(path, None, 1.0)):
        for path in (None, 3, ""):
            with pytest.raises(ct.InputError, match=r"^path is"):
                call(path)
    file = ct.read_particles(folder / "truth.star")
    assert ct.read_images(file, np.array([0, 2])).shape == (2, 32, 32)
    for rows in (3, [0.5], ["a"], slice(0, 3), [True]):
        with pytest.raises(ct.InputError, match="rows must be a list of whole numbers"):
            ct.read_images(file, rows)
    few = file.particles[torch.arange(4)]
    with pytest.raises(ct.InputError, match=r"particles has 4 rows and .* 120"):
        ct.write_particles(folder / "few.star", file, few)
    with pytest.raises(ct.InputError, match="holds images of these particles"):
        ct.write_particles(folder / "particles.mrcs", file, file.particles)
