"""Maps by name or by folder, refused where they hold nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.jobs.inputs.maps import check_blank, load_map, looks_inverted, map_path
from cryotorch.ops.masks.soft import soft_sphere

NOISE = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "names",
    [
        ["map.mrc", "map_half_A.mrc"],
        ["J3_002_volume_map.mrc", "J3_001_volume_map.mrc", "J3_002_volume_map_half_A.mrc"],
        ["run_class001.mrc", "run_it003_half1_class001.mrc", "run_half1_class001_unfil.mrc"],
    ],
)
def test_the_map_of_a_refinement_is_found_in_its_folder(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert map_path(str(tmp_path)) == tmp_path / names[0]
    with pytest.raises(InputError, match=r"like=.* holds no map"):
        map_path(str(tmp_path.parent), "like")


def test_a_pixel_size_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "map.mrc"
    write_volume(path, NOISE, 0.0)
    with pytest.raises(InputError, match=r"does not state its pixel size: add pixel_size=<Å>"):
        load_map(path, "half_map_b")
    assert load_map(path, "half_map_b", 1.7)[1] == 1.7


def test_a_blank_map_is_refused() -> None:
    check_blank(NOISE, "volume")
    with pytest.raises(InputError, match="volume is blank, all voxels are 2"):
        check_blank(torch.full((4, 4, 4), 2.0), "volume")


def test_a_particle_stands_out_on_one_side() -> None:
    ball = soft_sphere(16, 4, 2)
    assert looks_inverted(-ball) and not looks_inverted(ball) and not looks_inverted(NOISE)
