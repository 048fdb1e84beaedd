"""What a heterogeneous refinement starts from: which maps, which mask, on which scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.jobs import simulate
from cryotorch.jobs.classification3d.searched_inputs import map_paths, read_inputs
from cryotorch.jobs.config.catalog import make_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes") / "set"
    about = dict(box_size=24, pixel_size=6.0, n_particles=120, snr=2.0, shift_sigma=3)
    simulate.run(make_settings("simulate", out=str(folder), **about))
    return folder


def test_maps_are_those_of_the_classes_in_their_order(tmp_path: Path) -> None:
    one = torch.rand(8, 8, 8)
    for name in ("map", "map_class_2", "map_class_10", "map_class_1"):
        write_volume(tmp_path / f"{name}.mrc", one, 2.0)
    names = [path.stem for path in map_paths(str(tmp_path))]
    assert names == ["map_class_1", "map_class_2", "map_class_10"]
    assert map_paths([str(tmp_path), "b.mrc"]) == [tmp_path / "map.mrc", Path("b.mrc")]
    with pytest.raises(InputError, match="volume=null cannot be used: name the maps"):
        map_paths(None)


def read(folder: Path, **changes):
    about: dict[str, Any] = dict(volume=str(folder / "truth.mrc"))
    given = dict(particles=str(folder / "particles.star"))
    about |= dict(initial_resolution=30, final_resolution=15, n_classes=2, device="cpu")
    return read_inputs(make_settings("hetero_refine", **given, **(about | changes)))


def test_lengths_in_pixels_and_the_scale_of_the_map(folder: Path) -> None:
    found = read(folder, particle_diameter=90, mask_mode="dynamic")
    assert found.how.first_limit == pytest.approx(144 / 30, abs=0.5)
    assert found.how.limit == pytest.approx(144 / 15, abs=0.5) and found.shared == pytest.approx(
        30, abs=3
    )
    assert found.task.shift_extent == pytest.approx(2.4)
    assert found.how.grid.window[0] == pytest.approx((45 + 14.4) / 6)
    maps = found.task.maps
    coarse, fine = found.task.mask(maps, 4.8), found.task.mask(maps, 12.0)
    assert maps.shape == (1, 24, 24, 24)
    # around the density once it is known well enough, within the sphere before
    assert float(fine.sum()) < 0.9 * float(coarse.sum())
    assert float(coarse.sum()) == pytest.approx(4 / 3 * torch.pi * 7.5**3, rel=0.6)


def test_a_scaled_map_makes_no_difference(folder: Path) -> None:
    from cryotorch.data.mrc import read_volume

    volume, pixel = read_volume(folder / "truth.mrc")
    write_volume(folder / "scaled.mrc", 300 * volume, pixel)
    first = read(folder).task.maps
    second = read(folder, volume=str(folder / "scaled.mrc")).task.maps
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3 * float(first.abs().max()))
