"""Half maps by name or by folder, what is known of them, and masks on their grid."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.inputs.half_maps import (
    HalfMaps,
    background,
    half_paths,
    load_half_maps,
    load_map,
    load_mask,
    looks_inverted,
    pick_device,
    summary_of,
    symmetry_group,
)
from cryotorch.jobs.inputs.map_grid import Grid
from cryotorch.ops.masks.soft import soft_sphere

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
    write_volume(b, MAPS[1], 0.0)
    with pytest.raises(InputError, match=r"does not state its pixel size: add pixel_size=<Å>"):
        load_map(b, "half_map_b")
    assert load_map(b, "half_map_b", 1.7)[1] == 1.7


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
    with pytest.raises(InputError, match="symmetry=Q3 cannot be used"):
        symmetry_group("Q3")


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


def test_a_particle_stands_out_on_one_side() -> None:
    ball = soft_sphere(16, 4, 2)
    assert looks_inverted(-ball) and not looks_inverted(ball) and not looks_inverted(MAPS[0])


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, auto in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert (pick_device("auto").type, pick_device("cpu").type) == (auto, "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"device=cuda cannot be used: .* use device=cpu"):
        pick_device("cuda")
