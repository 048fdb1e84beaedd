"""Half maps by name or by folder, and what is known of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.jobs.files.manifest import summary_of
from cryotorch.jobs.inputs.half_maps import (
    HalfMaps,
    background,
    half_paths,
    load_half_maps,
)
from cryotorch.jobs.inputs.map_grid import Grid

MAPS = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, volume in zip("AB", MAPS, strict=True):
        write_volume(tmp_path / f"map_half_{name}.mrc", volume, 2.0, (-16.0, 0.0, 2.0))
    return tmp_path


def test_half_maps_of_a_folder_and_by_name(folder: Path) -> None:
    found = load_half_maps(str(folder), None, None)
    assert torch.equal(found.maps, MAPS) and found.pixel_size == 2.0 and found.folder == folder
    assert found.corner == pytest.approx((-16, 0, 2))
    names = [f"{folder}/map_half_{name}.mrc" for name in "AB"]
    named = load_half_maps(None, *names, pixel_size=2.2)
    assert named.pixel_size == 2.2 and named.folder is None
    assert named.corner == pytest.approx((-17.6, 0, 2.2))  # the corner goes with it
    assert HalfMaps(MAPS, 3.0, (Path("a"), Path("b"))).grid == Grid(16, 3.0)  # made here


@pytest.mark.parametrize(
    "names",
    [
        ("J3_002_map_half_A.mrc", "J3_002_map_half_B.mrc"),
        ("run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc"),
    ],
)
def test_half_maps_of_other_programs_are_known(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).touch()
        (tmp_path / name.replace("002", "001")).touch()
    assert half_paths(str(tmp_path), None, None)[0] == tuple(tmp_path / name for name in names)


def test_the_half_maps_that_a_validation_was_about(folder: Path, tmp_path: Path) -> None:
    judged = tmp_path / "judged"
    judged.mkdir()
    paths = [str(folder / f"map_half_{name}.mrc") for name in "AB"]
    (judged / "summary.json").write_text(json.dumps({"half_maps": paths}))
    assert [str(p) for p in half_paths(str(judged), None, None)[0]] == paths
    (judged / "summary.json").write_text(json.dumps({"half_maps": [paths[0], "gone.mrc"]}))
    with pytest.raises(InputError, match="holds no half maps"):
        half_paths(str(judged), None, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, None, None), "add volume=<run folder>, or half_map_a=<file>"),
        ((None, "a", None), "add half_map_b=<file>"),
        ((None, None, "b"), "add half_map_a=<file>"),
        (("v", None, "b"), "volume=v and half_map_b=b contradict each other"),
        (("gone", None, None), "volume=gone is not a folder"),
    ],
)
def test_two_half_maps_are_needed(given, said: str) -> None:
    with pytest.raises(InputError, match=said):
        half_paths(*given)


def test_half_maps_that_cannot_be_a_pair(folder: Path) -> None:
    a, b = (f"{folder}/map_half_{name}.mrc" for name in "AB")
    for other, pixel, said in (
        (MAPS[0], 2.0, "are the same map"),
        (MAPS[0, :12, :12, :12], 2.0, "different boxes, 16 and 12"),
        (MAPS[1], 2.5, "different pixel sizes, 2 and 2.5"),
        (0 * MAPS[1] + 3, 2.0, "half_map_b=.* is blank, all voxels are 3"),
    ):
        write_volume(b, other, pixel)
        with pytest.raises(InputError, match=said):
            load_half_maps(None, a, b)


def test_what_a_summary_says_of_half_maps(tmp_path: Path) -> None:
    said = {"symmetry": "d2", "box": 16, "shells": {"shared": 3.5, "inserted": 7.0}}
    (tmp_path / "summary.json").write_text(json.dumps(said))
    found = background(tmp_path, None, 16)
    assert (found.symmetry, found.shared, found.inserted, len(found.group)) == ("D2", 3.5, 7.0, 4)
    assert background(tmp_path, "C3", 16).symmetry == "C3"
    other = background(tmp_path, None, 18)  # shells of another box mean nothing
    assert (other.symmetry, other.shared, other.inserted) == ("D2", 0.0, math.inf)
    (tmp_path / "summary.json").write_text("[1]")
    assert (
        summary_of(tmp_path) == summary_of(None) == {}
        and background(None, None, 16).symmetry == "C1"
    )
