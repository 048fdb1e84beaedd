"""Maps as bytes hold what the files hold, and the local correlation is that of its formula."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.report.page import maps as page_maps
from cryotorch.report.page.maps import flattened, local_correlation, maps, to_bytes
from cryotorch.report.page.run_files import RunFiles, read_run


def values(grid: dict) -> np.ndarray:
    """What a browser makes of it."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(grid["data"])), np.uint8)
    step = (grid["high"] - grid["low"]) / 255
    return grid["low"] + step * raw.reshape((grid["m"],) * 3)


def test_bytes_are_the_map_to_half_a_step(run: RunFiles) -> None:
    found = {grid.name: grid for grid in maps(run).grids}
    assert list(found) == [
        *("map.mrc", "map_sharp.mrc", "map_half_A.mrc − map_half_B.mrc"),
        *("map_cutoff.mrc", "mask_refine.mrc", "mask_fsc.mrc"),
    ]
    volume = read_volume(run.path / "map.mrc")[0].numpy()
    grid = found["map.mrc"].plain()
    step = (grid["high"] - grid["low"]) / 255
    inside = volume >= grid["low"]
    assert np.abs(values(grid) - volume)[inside].max() < 0.51 * step
    assert grid["high"] == volume.max() and grid["edge"] == 80.0 and grid["box"] == 32
    level = grid["low"] + grid["level"] * step
    assert level == pytest.approx(0.22 * np.percentile(volume, 99.9), rel=1e-6)
    assert [grid.kind for grid in found.values()] == ["map", "map", "difference", "angstrom", "mask", "mask"]  # fmt: skip


def test_larger_boxes_are_cropped_in_fourier_space(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    volume = resize_volume(torch.randn(20, 20, 20, generator=generator), 110)
    write_volume(tmp_path / "map.mrc", volume, 1.0)
    (grid,) = maps(read_run(tmp_path)).grids
    assert len(grid.values) == 96 and grid.box == 110 and grid.edge == 110
    expected = resize_volume(volume, 96).numpy()
    inside = expected > grid.low
    assert np.abs(values(grid.plain()) - expected)[inside].max() < 0.6 * (grid.high - grid.low) / 255  # fmt: skip


def test_a_page_of_256_voxels_has_room(tmp_path: Path) -> None:
    """Five maps of noise, which nothing compresses, at a box of 256, and two masks: below 2.1 MB."""
    generator = torch.Generator().manual_seed(1)
    for name in ("map", "map_sharp", "map_half_A", "map_half_B", "mask_fsc"):
        small = torch.randn(128, 128, 128, generator=generator)
        values = (small > 0).float() if name == "mask_fsc" else small
        write_volume(tmp_path / f"{name}.mrc", values, 2.0)
    found = maps(read_run(tmp_path))
    assert sum(len(grid.plain()["data"]) for grid in found.grids) < 2_100_000


def test_what_is_no_map_is_left_out(run: RunFiles) -> None:
    (run.path / "map.mrc").write_bytes(b"nothing")
    write_volume(run.path / "map_sharp.mrc", torch.zeros(8, 8, 8), 1.0)
    assert [grid.name for grid in maps(run).grids if grid.kind == "map"] == []


def test_surfaces_are_coloured_only_where_a_resolution_is_claimed(run: RunFiles) -> None:
    assert "to 9.41 Å" in maps(run).tint["label"]
    silent = replace(run, summary={**run.summary, "resolution": None})
    assert maps(silent).tint is None
    write_volume(run.path / "local_resolution.mrc", 5 + torch.rand(32, 32, 32), 2.5)
    tint = maps(read_run(run.path)).tint
    assert tint["kind"] == "angstrom" and tint["high"] == pytest.approx(6, abs=0.01)


def test_resolutions_in_angstrom_are_not_blurred(tmp_path: Path) -> None:
    """Neither rings nor values between those of the file: 0 says that nothing is said."""
    volume = torch.zeros(120, 120, 120)
    volume[30:90, 30:90, 30:90] = 4.0
    write_volume(tmp_path / "local_resolution.mrc", volume, 1.0)
    (grid,) = maps(read_run(tmp_path)).grids
    assert set(np.unique(grid.values)) == {0, 255} and grid.high == 4.0


def test_many_maps_share_the_room(tmp_path: Path) -> None:
    volume = torch.rand(64, 64, 64)
    for k in range(12):
        write_volume(tmp_path / f"map_class_{k:02d}.mrc", volume, 1.0)
    grids = maps(read_run(tmp_path)).grids
    assert len(grids) == page_maps.MOST_MAPS and grids[0].label == "Map class 00"
    assert sum(grid.values.size for grid in grids) < 1.01 * page_maps.MOST_VOXELS


def test_local_correlation_is_its_formula() -> None:
    """Alike on one side, opposite on the other, and independent noise of power s² lowers it to 1 / (1 + s²)."""
    generator = np.random.default_rng(1)
    a = generator.normal(size=(40, 40, 40))
    b = a.copy()
    b[:, :, 20:] *= -3
    found = local_correlation(a, b, 2.0)
    assert found[:, :, :10].min() > 0.999 and found[:, :, 30:].max() < -0.999
    noisy = [a + 0.5 * generator.normal(size=a.shape) for _ in (0, 1)]
    assert local_correlation(*noisy, 4.0).mean() == pytest.approx(1 / 1.25, abs=0.01)
    assert (local_correlation(a * 0, b, 2.0) == 0).all()


def test_shells_weigh_alike() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=(2, 24, 24, 24)).cumsum(axis=1)
    k = np.fft.fftfreq(24, 1 / 24)
    shell = np.rint(np.sqrt((k[:, None, None] ** 2 + k[:, None] ** 2) + k**2)).astype(int)
    powers = [np.abs(np.fft.fftn(x)) ** 2 for x in flattened(a, b, 8.4)]
    mean = [float(sum(p[shell == s].mean() for p in powers)) for s in range(12)]
    assert mean[1:9] == pytest.approx([1.0] * 8) and mean[0] < 1e-20 and max(mean[9:]) < 1e-20


def test_masks_run_from_0_to_1() -> None:
    grid = to_bytes(np.linspace(0, 1, 8).reshape(2, 2, 2), "mask.mrc", "Mask", "mask", 2, 2.0)
    assert (grid.low, grid.high, grid.level) == (0, 1, 127.5)
    assert to_bytes(np.ones((2, 2, 2)), "map.mrc", "Map", "map", 2, 2.0) is None
