"""Volume tools from file to file: models against gemmi, steps against closed forms, refusals in one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gemmi
import mrcfile
import numpy as np
import pytest
import torch
import yaml

from cryotorch.data.mrc import read_header, read_volume, write_volume
from cryotorch.errors import InputError
from cryotorch.jobs import volume_tools
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.volume import results
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.geometry.placement import crop_or_pad
from cryotorch.ops.geometry.rotations import euler_to_matrix
from cryotorch.ops.geometry.symmetry import point_group, rotate_volume, symmetry_correlation
from cryotorch.ops.models.phantom import phantom
from cryotorch.report import canvas

PX = 2.0


def edit(out: Path, **changes: Any) -> tuple[torch.Tensor, dict]:
    """The map or mask that the job writes, and its summary."""
    settings = make_settings("volume_tools", out=str(out), device="cpu", **changes)
    assert volume_tools.run(settings) == out
    summary = json.loads((out / "summary.json").read_text())
    result, pixel_size = read_volume(out / summary["result"])
    assert pixel_size == pytest.approx(summary["pixel_size"], rel=1e-5)
    assert len(result) == summary["box"]
    assert read_header(out / summary["result"]).corner == pytest.approx(summary["corner"], abs=1e-4)
    return result, summary


def radius(box: int, centre: tuple[float, float, float]) -> torch.Tensor:
    """Distance from a point (x, y, z) in voxels from the corner."""
    line = torch.arange(box, dtype=torch.float32)
    x, y, z = ((line - c) ** 2 for c in centre)
    return (z[:, None, None] + y[:, None] + x).sqrt()


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """blob.mrc and odd.mrc: a molecule in 32 and 33 voxels; balls.mrc: two that touch; mask.mrc: a soft ball."""
    folder = tmp_path_factory.mktemp("volumes")
    molecule = phantom(32, PX, point_group("C1"))
    write_volume(folder / "blob.mrc", molecule, PX)
    write_volume(folder / "odd.mrc", resample_volume(molecule, PX, 33, PX), PX)
    touching = (radius(40, (13, 20, 20)) <= 6) | (radius(40, (24, 20, 20)) <= 5)
    write_volume(folder / "balls.mrc", touching.float() * 5 - 0.5, PX)
    write_volume(folder / "mask.mrc", (1.5 - radius(32, (16, 16, 16)) / 8).clamp(0, 1), PX)
    return folder


def test_the_folder_tells_what_was_done(files: Path, tmp_path: Path) -> None:
    mask, summary = edit(
        tmp_path / "a",
        volume=f"{files}/blob.mrc",
        low_pass=8,
        threshold=0.3,
        dilate="1px",
        soften="4px",
    )
    names = ["config.yaml", "log.txt", "manifest.json", "mask.mrc", "slices.png", "summary.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    numbers = summary["mask"]
    assert 0 == mask.min() < mask.max() == 1
    assert numbers["voxels"] == int((mask > 0.5).sum())
    assert numbers["volume"] == pytest.approx(numbers["voxels"] * PX**3)
    above = numbers["voxels_above_threshold"]
    assert numbers["protein_mass_kda"] == pytest.approx(above * PX**3 / 1210)
    assert numbers["edge_width"] == pytest.approx(4, rel=0.3)
    place, line = summary["centre_of_mass"], torch.arange(32.0)
    assert place["voxels"][0] == pytest.approx(float((mask.sum((0, 1)) * line).sum() / mask.sum()), abs=1e-3)  # fmt: skip
    assert place["angstrom"] == pytest.approx([PX * c for c in place["voxels"]])
    text = (tmp_path / "a" / "log.txt").read_text()
    assert all(step in text for step in summary["steps"]) and "fulcrum" in text and "kDa" in text
    written = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert (written["dilate"], written["threshold"]) == ("1px", 0.3)
    assert (tmp_path / "a" / "slices.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["blob", "odd"])
def test_nothing_asked_for_nothing_done(files: Path, tmp_path: Path, name: str) -> None:
    result, summary = edit(tmp_path / "a", volume=f"{files}/{name}.mrc")
    assert torch.equal(result, read_volume(files / f"{name}.mrc")[0])
    assert summary["result"] == "map.mrc" and len(summary["steps"]) == 1


@pytest.mark.parametrize("name", ["blob", "odd"])
def test_steps_are_the_operations_in_their_order(files: Path, tmp_path: Path, name: str) -> None:
    volume, _ = read_volume(files / f"{name}.mrc")
    result, summary = edit(
        tmp_path / "a", volume=f"{files}/{name}.mrc", low_pass=7, new_pixel_size=2.5, flip_hand=True,
        rotate=[20, 30, -40], shift=["3px", -5, 0], normalize=True,
    )  # fmt: skip
    assert len(summary["steps"]) == 7
    expected = resample_volume(low_pass(volume, PX, 7), PX, 26 if name == "blob" else 27, 2.5)
    c = len(expected) // 2
    flipped = torch.zeros_like(expected)
    flipped[1 - len(expected) % 2 :, 1 - len(expected) % 2 :, 1 - len(expected) % 2 :] = expected[
        1 - len(expected) % 2 :, 1 - len(expected) % 2 :, 1 - len(expected) % 2 :
    ].flip((0, 1, 2))
    angles = torch.tensor([20, 30, -40], dtype=torch.float64).deg2rad()
    expected = rotate_volume(flipped, euler_to_matrix(*angles)).roll((-2, 3), (1, 2))
    inside = radius(len(expected), (c, c, c)) < c - 4
    assert correlation(result[inside], expected[inside]) > 0.9999
    assert float(result.mean()) == pytest.approx(0, abs=1e-5)
    assert float(result.std()) == pytest.approx(1, abs=1e-3)


def test_a_crop_and_a_pad_keep_the_middle(files: Path, tmp_path: Path) -> None:
    volume, _ = read_volume(files / "blob.mrc")
    small, _ = edit(tmp_path / "a", volume=f"{files}/blob.mrc", box_size=21)
    assert torch.equal(small, volume[6:27, 6:27, 6:27])
    again, _ = edit(tmp_path / "b", volume=f"{tmp_path}/a/map.mrc", box_size=32)
    assert torch.equal(again[6:27, 6:27, 6:27], small) and not again[:6].any()


@pytest.mark.parametrize(("name", "other"), [("blob", "odd"), ("odd", "balls"), ("mask", "balls")])
def test_on_the_grid_of_another_map(files: Path, tmp_path: Path, name: str, other: str) -> None:
    volume, _ = read_volume(files / f"{name}.mrc")
    write_volume(tmp_path / "like.mrc", read_volume(files / f"{other}.mrc")[0], 1.5)
    with mrcfile.open(tmp_path / "like.mrc", "r+") as file:
        file.header.nxstart = -4
    result, summary = edit(
        tmp_path / "a", volume=f"{files}/{name}.mrc", like=f"{tmp_path}/like.mrc"
    )
    box = 33 if other == "odd" else 40
    middles = (len(volume) // 2 * PX, box // 2 * 1.5)
    away = middles[0] - middles[1]
    expected = resample_volume(volume, PX, box, 1.5, (away + 6, away, away))
    if name == "mask":
        assert summary["result"] == "mask.mrc" and 0 <= result.min() and result.max() <= 1
        expected = expected.clamp(0, 1)
    assert torch.allclose(result, expected, atol=1e-5)
    assert summary["pixel_size"] == pytest.approx(1.5)


def off_centre(folder: Path, name: str, box: int, corner: tuple[float, float, float]) -> str:
    """A map with a ball that is off its middle, and a header that places its corner."""
    ball = (3 - radius(box, (0.4 * box, 0.5 * box, 0.6 * box)) / 3).clamp(0, 1)
    write_volume(folder / name, 2 * ball, PX, corner)
    return f"{folder}/{name}"


@pytest.mark.parametrize("corner", [(0.0, 0.0, 0.0), (-40.0, 7.0, 12.5)])
@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(box_size=25),
        dict(box_size=48),
        dict(new_pixel_size="0.25nm"),
        dict(new_pixel_size=1.5, box_size=50),
    ],
)
def test_results_overlay_with_the_input_in_chimerax(tmp_path, corner, changes) -> None:
    """What lay at a place in Å lies there still."""
    _, before = edit(tmp_path / "a", volume=off_centre(tmp_path, "in.mrc", 40, corner))
    _, after = edit(tmp_path / "b", volume=f"{tmp_path}/in.mrc", **changes)
    expected = [c + PX * f * 40 for c, f in zip(corner, (0.4, 0.5, 0.6))]
    assert before["centre_of_mass"]["angstrom"] == pytest.approx(expected, abs=0.01)
    assert after["centre_of_mass"]["angstrom"] == pytest.approx(expected, abs=0.05)
    assert before["corner"] == pytest.approx(corner)
    _, back = edit(tmp_path / "c", volume=f"{tmp_path}/b/map.mrc", like=f"{tmp_path}/in.mrc")
    assert back["corner"] == pytest.approx(corner) and not back["warnings"]


def test_the_frame_of_like_counts(tmp_path) -> None:
    """What lay at a place in Å lies there still, unless middle on middle is asked for."""
    source = off_centre(tmp_path, "in.mrc", 40, (-20, -40, -44))
    other = off_centre(tmp_path, "other.mrc", 40, (-40, -40, -40))
    result, summary = edit(tmp_path / "a", volume=source, like=other)
    assert summary["corner"] == [-40, -40, -40] and not summary["warnings"]
    assert summary["centre_of_mass"]["angstrom"] == pytest.approx([12, 0, 4], abs=0.01)
    assert torch.allclose(result, read_volume(source)[0].roll((10, -2), (2, 0)), atol=1e-5)
    result, summary = edit(tmp_path / "b", volume=source, like=other, center=True)
    assert summary["corner"] == [-40, -40, -40]
    assert torch.equal(result, read_volume(source)[0])
    write_volume(tmp_path / "bare.mrc", result, PX)  # its header says nothing
    for name, centre in (("c", "auto"), ("d", True)):
        again, summary = edit(
            tmp_path / name, volume=f"{tmp_path}/bare.mrc", like=other, center=centre
        )
        assert torch.equal(again, result) and not summary["warnings"]
    message = refused(tmp_path, volume=f"{tmp_path}/bare.mrc", like=other, center=False)
    assert "lies (40, 40, 40) Å from the middle" in message and "add center=true" in message


@pytest.mark.parametrize("field", ["origin", "start"])
@pytest.mark.parametrize(("box", "px"), [(40, PX), (41, PX), (32, 2.5)])
def test_a_mask_cut_out_of_a_map_lands_where_it_was(tmp_path, field, box, px) -> None:
    """As ChimeraX saves a region: no cube, its start in the header; the map's own corner is 0."""
    corner = (6, 10, 14)  # voxels
    r = radius(40, (16, 20, 24)) * PX
    whole = (1.5 - r / 12).clamp(0, 1)
    write_volume(tmp_path / "cut.mrc", whole[14:36, 10:30, 6:27], PX)
    with mrcfile.open(tmp_path / "cut.mrc", "r+") as file:
        if field == "origin":
            for axis, start in zip("xyz", corner, strict=True):
                file.header.origin[axis] = PX * start
        else:
            file.header.nxstart, file.header.nystart, file.header.nzstart = corner
    write_volume(tmp_path / "like.mrc", torch.ones(box, box, box), px)
    mask, summary = edit(tmp_path / "a", volume=f"{tmp_path}/cut.mrc", like=f"{tmp_path}/like.mrc")
    assert summary["result"] == "mask.mrc" and summary["corner"] == [0, 0, 0]
    assert not summary["warnings"] or "hard" in summary["warnings"][0]
    expected = (1.5 - radius(box, tuple(PX * c / px for c in (16, 20, 24))) * px / 12).clamp(0, 1)
    assert torch.allclose(mask, expected, atol=1e-5 if px == PX else 0.05)


def test_conventions_of_the_origin_are_no_places(tmp_path) -> None:
    """Middle at 0 and corner at 0 say nothing about each other; a crop without origin stays in the middle."""
    centred = off_centre(tmp_path, "centred.mrc", 40, (-40, -40, -40))
    bare = off_centre(tmp_path, "bare.mrc", 48, (0, 0, 0))
    for name, volume, like in (("a", centred, bare), ("b", bare, centred)):
        result, summary = edit(tmp_path / name, volume=volume, like=like)
        expected = crop_or_pad(read_volume(volume)[0], len(result))
        assert torch.allclose(result, expected, atol=1e-5) and not summary["warnings"]


def test_a_corrected_pixel_size_takes_the_corner_along(tmp_path) -> None:
    source = off_centre(tmp_path, "in.mrc", 40, (-40, 0, 20))
    _, summary = edit(tmp_path / "a", volume=source, pixel_size="2.2A")
    assert summary["corner"] == pytest.approx([-44, 0, 22])


def test_coordinates_in_angstrom_are_those_of_chimerax(tmp_path) -> None:
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


def test_a_map_that_is_no_cube_becomes_one(tmp_path) -> None:
    whole = read_volume(off_centre(tmp_path, "in.mrc", 40, (0, 0, 0)))[0]
    write_volume(tmp_path / "slab.mrc", whole[8:37, 2:], PX, (0, 4, 16))
    result, summary = edit(tmp_path / "a", volume=f"{tmp_path}/slab.mrc")
    place = [c * PX for c in (16, 20, 24)]
    assert len(result) == 40
    assert summary["centre_of_mass"]["angstrom"] == pytest.approx(place, abs=0.01)
    assert "40 x 38 x 29 voxels, padded with zeros to 40 voxels per edge" in summary["steps"][0]


def test_a_map_turned_by_a_symmetry_is_averaged(files: Path, tmp_path: Path) -> None:
    result, _ = edit(tmp_path / "a", volume=f"{files}/odd.mrc", symmetry="D2")
    assert float(symmetry_correlation(result, point_group("D2")).min()) > 0.999


def test_spheres_in_voxels_and_in_angstrom(files: Path, tmp_path: Path) -> None:
    volume, _ = read_volume(files / "balls.mrc")
    place, source = radius(40, (13, 20, 20)), f"{files}/balls.mrc"
    erased, _ = edit(tmp_path / "a", volume=source, erase=[[13, 20, 20, 7]])
    kept, _ = edit(tmp_path / "b", volume=source, keep=[26, 40, 40, 14], coordinates="angstrom")
    assert torch.equal(erased, torch.where(place <= 7, 0.0, volume))
    assert torch.equal(kept, torch.where(place <= 7, volume, 0.0))
    soft, _ = edit(tmp_path / "c", volume=source, erase=[13, 20, 20, 7], sphere_edge="4px")
    assert float(soft[20, 20, 13 - 9]) == pytest.approx(0.5 * float(volume[20, 20, 4]))


def test_a_watershed_cuts_out_the_part_that_holds_the_point(files: Path, tmp_path: Path) -> None:
    common = dict(volume=f"{files}/balls.mrc", threshold=0.5, segment__scale="6px")
    mask, summary = edit(
        tmp_path / "a", **common, segment__method="watershed", segment__points=[24, 20, 20]
    )
    ball = radius(40, (24, 20, 20)) <= 5
    assert float(((mask > 0.5) & ball).sum() / ((mask > 0.5) | ball).sum()) > 0.95
    assert [segment["kept"] for segment in summary["segments"]] == [False, True]
    assert summary["segments"][0]["voxels"] > summary["segments"][1]["voxels"]
    assert summary["segments"][1]["centre"] == pytest.approx([24, 20, 20], abs=0.3)
    assert (tmp_path / "a" / "segments.png").read_bytes()[:4] == b"\x89PNG"
    labels, _ = read_volume(tmp_path / "a" / "segments.mrc")
    assert torch.equal(labels == 2, mask > 0.5)
    assert any("hard edge" in warning for warning in summary["warnings"])
    other, _ = edit(tmp_path / "b", **common, segment__method="watershed", segment__labels=[1])
    assert torch.equal((other > 0.5) | (mask > 0.5), labels > 0) and not (other * mask).any()
    volume = 4 / 3 * math.pi * 5.7**3 * PX**3  # between the two
    large, _ = edit(
        tmp_path / "c", **common, segment__method="watershed", segment__min_volume=volume
    )
    assert torch.equal(large, other)
    pieces, summary = edit(tmp_path / "d", **common, segment__method="components")
    assert len(summary["segments"]) == 1 and torch.equal(pieces > 0, labels > 0)
    cut, summary = edit(
        tmp_path / "e", **common, segment__method="watershed", segment__labels=2, write="map"
    )
    assert summary["result"] == "map.mrc"
    assert torch.allclose(cut, read_volume(files / "balls.mrc")[0] * mask)


def test_threshold_absolute_and_relative(files: Path, tmp_path: Path) -> None:
    source = f"{files}/blob.mrc"
    volume, _ = read_volume(source)
    absolute, _ = edit(tmp_path / "a", volume=source, threshold=0.02, relative_threshold=False)
    assert torch.equal(absolute > 0, volume > 0.02)
    relative, _ = edit(tmp_path / "b", volume=source, threshold=0.4)
    high = volume.flatten().sort().values[-round(1e-4 * volume.numel())]
    assert torch.equal(relative > 0, volume > 0.4 * high)


def test_holes_pieces_growth_and_soft_edge(tmp_path: Path) -> None:
    r = radius(48, (24, 24, 24))
    volume = ((r <= 10) & (r > 4)) | (radius(48, (5, 5, 5)) <= 2)
    write_volume(tmp_path / "shell.mrc", volume.float() * 3, PX)
    mask, _ = edit(
        tmp_path / "a", volume=f"{tmp_path}/shell.mrc", threshold=0.5, fill_holes=True,
        keep_largest=True, dilate="2px", soften="8px",
    )  # fmt: skip
    assert (mask[r <= 11] == 1).all() and (mask[r >= 20.01] == 0).all()
    axis = mask[24, 24, 24:]
    assert float(axis[10 + 2 + 4]) == pytest.approx(0.5)
    assert axis[10 : 10 + 11].tolist() == pytest.approx(
        [1, 1, *(0.5 + 0.5 * math.cos(math.pi * t / 8) for t in range(9))], abs=1e-5
    )
    small, _ = edit(
        tmp_path / "b", volume=f"{tmp_path}/a/mask.mrc", dilate=f"{-6 * PX}A"
    )  # the mask passes 0.5 at 16
    assert (small[r <= 9] == 1).all() and not small[r > 10.5].any()


def test_masks_combined_and_inverted(tmp_path: Path) -> None:
    a, b = radius(32, (13, 16, 16)) <= 6, radius(32, (19, 16, 16)) <= 6
    for name, mask in (("a", a), ("b", b)):
        write_volume(tmp_path / f"{name}.mrc", mask.float(), PX)
    one, two = f"{tmp_path}/a.mrc", f"{tmp_path}/b.mrc"
    expected = {"unite": a | b, "intersect": a & b, "subtract": a & ~b}
    for name, mask in expected.items():
        found, _ = edit(tmp_path / name, volume=one, **{name: two})
        assert torch.equal(found > 0.5, mask), name
    found, _ = edit(tmp_path / "several", volume=one, unite=[two], subtract=[one])
    assert torch.equal(found > 0.5, b & ~a)
    found, _ = edit(tmp_path / "invert", volume=one, invert=True)
    assert torch.equal(found > 0.5, ~a)


def test_an_odd_box_without_pixel_size(tmp_path: Path, files: Path) -> None:
    with mrcfile.new(tmp_path / "bare.mrc") as file:
        file.set_data(read_volume(files / "odd.mrc")[0].numpy())
    source = f"{tmp_path}/bare.mrc"
    with pytest.raises(InputError, match=r"does not state its pixel size: add pixel_size=<Å>"):
        edit(tmp_path / "a", volume=source)
    assert not (tmp_path / "a").exists()
    mask, summary = edit(
        tmp_path / "a",
        volume=source,
        pixel_size=5,
        threshold=0.3,
        soften="3px",
        box_size=41,
        flip_hand=True,
    )
    assert len(mask) == 41 and summary["pixel_size"] == 5
    _, summary = edit(tmp_path / "b", volume=f"{files}/blob.mrc", like=source, pixel_size=5)
    assert (summary["box"], summary["pixel_size"]) == (33, 5)


ATOM = "ATOM  {:5}  CA  ALA {}{:4}    {:8.3f}{:8.3f}{:8.3f}  1.00 40.00           C\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chains of atoms about (30, 25, 40) and (50, 25, 40) Å."""
    draw = np.random.default_rng(0)
    place = draw.normal(scale=4, size=(40, 3)) + [30, 25, 40] + 20 * (np.arange(40)[:, None] >= 20) * [1, 0, 0]  # fmt: skip
    path = tmp_path_factory.mktemp("model") / "two.pdb"
    path.write_text(
        "".join(ATOM.format(i + 1, "AB"[i // 20], i + 1, *xyz) for i, xyz in enumerate(place))
    )
    return path


@pytest.mark.parametrize("box", [40, 41])
@pytest.mark.parametrize("field", ["origin", "start"])
def test_a_fitted_model_lands_where_its_coordinates_are(model, tmp_path, box, field) -> None:
    """In the frame of the map: its corner is at the header's origin, or at its start in voxels."""
    corner = torch.tensor([-4.0, -12.0, 6.0])
    write_volume(tmp_path / "like.mrc", torch.zeros(box, box, box), PX)
    with mrcfile.open(tmp_path / "like.mrc", "r+") as file:
        if field == "origin":
            file.header.origin.x, file.header.origin.y, file.header.origin.z = corner.tolist()
        else:
            file.header.nxstart, file.header.nystart, file.header.nzstart = -2, -6, 3
    common = dict(volume=str(model), like=f"{tmp_path}/like.mrc", resolution=6)
    whole, summary = edit(tmp_path / "a", **common)
    atoms = gemmi.read_structure(str(model))[0]
    for name, chains in (("a", "AB"), ("b", "B")):
        if name == "b":
            whole, summary = edit(tmp_path / "b", **common, select="B")
        xyz = [a.pos.tolist() for c in atoms if c.name in chains for r in c for a in r]
        expected = (torch.tensor(xyz, dtype=torch.float64).mean(0) - corner) / PX
        assert summary["centre_of_mass"]["voxels"] == pytest.approx(expected.tolist(), abs=0.05)
    assert (len(whole), summary["read_as"]) == (box, "model")


def test_a_model_that_was_not_fitted_is_centred_and_its_parts_with_it(model, tmp_path) -> None:
    common = dict(volume=str(model), resolution=6, box_size=41, pixel_size=PX)
    both, summary = edit(tmp_path / "a", **common)
    assert summary["centre_of_mass"]["voxels"] == pytest.approx([20, 20, 20], abs=0.05)
    parts = [edit(tmp_path / chain, **common, select=[chain])[0] for chain in "AB"]
    assert torch.allclose(sum(parts), both, atol=1e-6)
    mask, _ = edit(tmp_path / "m", **common, select="A", threshold=0.2, soften="3px")
    assert float((mask * parts[0]).sum() / parts[0].sum()) > 0.9
    assert float((mask * parts[1]).sum() / parts[1].sum()) < 0.2


def test_a_model_on_a_grid_is_shown_over_its_map(model, tmp_path, monkeypatch) -> None:
    """Fitted or centred."""
    like, shown = off_centre(tmp_path, "like.mrc", 40, (0, -10, 0)), []
    monkeypatch.setattr(results, "mask_figure", lambda v, *_: shown.append(v) or plain())
    for name, centre in (("a", "auto"), ("b", True)):
        common = dict(volume=str(model), like=like, resolution=6, threshold=0.2)
        _, summary = edit(tmp_path / name, **common, center=centre)
        assert torch.equal(shown[-1], read_volume(like)[0])
        assert summary["corner"] == [0, -10, 0]


def plain() -> Any:
    return canvas.new_figure(1, 1, "")


@pytest.mark.parametrize(("move", "part"), [(0, None), (27, 0.08), (31, 0.2), (80, 1)])
def test_a_model_outside_the_box_is_refused(model, tmp_path, move, part) -> None:
    """One atom or two outside are spoken of, more than a tenth cannot be meant."""
    write_volume(tmp_path / "like.mrc", torch.ones(40, 40, 40), PX, (-move, 0.0, 0.0))
    changes = dict(volume=str(model), like=f"{tmp_path}/like.mrc", resolution=6)
    if part is None or part < 0.1:
        _, summary = edit(tmp_path / "a", **changes)
        assert len(summary["warnings"]) == (part is not None)
        assert all("add center=true" in warning for warning in summary["warnings"])
        return
    message = refused(tmp_path, **changes)
    assert "lies outside like=" in message and "or add center=true" in message


@pytest.mark.data
@pytest.mark.parametrize("box", [100, 101])
def test_molmap_agrees_with_gemmi(shared_data: Path, tmp_path: Path, box: int) -> None:
    """3SN6 at 6 Å in the frame of a map: gemmi has five Gaussians per atom, the job one."""
    source, pixel_size, resolution = shared_data / "real/3sn6.pdb.gz", 2.0, 6.0
    corner = (-60.0, -90.0, -80.0)
    write_volume(tmp_path / "like.mrc", torch.zeros(box, box, box), pixel_size)
    with mrcfile.open(tmp_path / "like.mrc", "r+") as file:
        file.header.origin.x, file.header.origin.y, file.header.origin.z = corner
    found, summary = edit(
        tmp_path / "a", volume=str(source), like=f"{tmp_path}/like.mrc", resolution=resolution
    )
    structure = gemmi.read_structure(str(source))
    structure.setup_entities()
    structure.remove_hydrogens()
    structure.remove_waters()
    for place in structure[0].all():
        place.atom.pos -= gemmi.Position(*corner)
    calculator, edge = gemmi.DensityCalculatorE(), box * pixel_size
    calculator.d_min, calculator.rate = 2 * pixel_size, 1.0
    calculator.blur = 8 * math.pi**2 * (0.225 * resolution) ** 2  # molmap's Gaussian
    calculator.grid.set_unit_cell(gemmi.UnitCell(edge, edge, edge, 90, 90, 90))
    calculator.grid.set_size(box, box, box)
    calculator.add_model_density_to_grid(structure[0])
    expected = torch.from_numpy(np.array(calculator.grid.array)).permute(2, 1, 0).contiguous()
    assert expected.shape == found.shape
    assert correlation(found, expected) > 0.999
    line = torch.arange(box, dtype=torch.float64)
    center = [
        float((expected.double().sum(dims) * line).sum() / expected.double().sum())
        for dims in ((0, 1), (0, 2), (1, 2))
    ]
    assert summary["centre_of_mass"]["voxels"] == pytest.approx(center, abs=0.03)
    # a tenth of a voxel would show: the correlation falls where the grid is moved by it
    lines = [torch.exp(-2j * torch.pi * 0.1 * torch.fft.fftfreq(box)), torch.ones(box)]
    for turn in range(3):
        shape = [-1 if dim == turn else 1 for dim in range(3)]
        moved = torch.fft.ifftn(torch.fft.fftn(found) * lines[0].view(shape)).real
        assert correlation(moved, expected) < correlation(found, expected)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "symmetry"), [("betaGal.mrc.gz", "D2"), ("trpv1_volume.mrc", "C4")]
)
def test_a_flip_keeps_the_symmetry_and_changes_the_map(
    shared_data, tmp_path, name, symmetry
) -> None:
    source = shared_data / "real" / name
    volume, _ = read_volume(source)
    flipped, _ = edit(tmp_path / "a", volume=str(source), flip_hand=True)
    group = point_group(symmetry)
    before, after = (float(symmetry_correlation(v, group).min()) for v in (volume, flipped))
    assert after == pytest.approx(before, abs=1e-4) and after > 0.99
    assert correlation(volume, flipped) < 0.95
    again, _ = edit(tmp_path / "b", volume=f"{tmp_path}/a/map.mrc", flip_hand=True)
    assert torch.equal(again, volume)


@pytest.mark.data
def test_a_ribosome_in_an_odd_box_goes_through_everything(shared_data, tmp_path) -> None:
    source = shared_data / "real/clean70SRibosome_vol_65p.mrc"
    mask, summary = edit(
        tmp_path / "a", volume=str(source), pixel_size=5, low_pass=20, high_pass=300, filter_order=4,
        new_pixel_size=6, rotate=[10, 20, 30], shift=[0, "1px", 0], symmetry="C2", normalize=True,
        erase=[[5, 5, 5, 3]], keep=[[27, 27, 27, 26]], threshold=0.2, fill_holes=True, keep_largest=True,
        segment__method="watershed", segment__scale=60, dilate="-1px", soften="3px",
    )  # fmt: skip
    assert len(mask) == 55 and 0.02 < float((mask > 0.5).float().mean()) < 0.5
    assert summary["warnings"] == []


@pytest.mark.gpu
def test_a_gpu_gives_the_same(files: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = dict(
        volume=f"{files}/blob.mrc", low_pass=7, new_pixel_size=2.5, flip_hand=True, rotate=[20, 30, -40],
        shift=[3, 0.5, 0], symmetry="C2", keep=[13, 13, 13, 12], threshold=0.3, fill_holes=True,
        segment__method="watershed", dilate="1px", soften="3px",
    )  # fmt: skip
    masks = []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        volume_tools.run(make_settings("volume_tools", out=str(out), device=device, **changes))
        masks.append(read_volume(out / "mask.mrc")[0])
    assert float((masks[0] - masks[1]).abs().mean()) < 1e-3


def refused(tmp_path: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        edit(tmp_path / "refused", **changes)
    assert not (tmp_path / "refused").exists()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    return message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(volume=None), "volume=null cannot be used: name a map, a mask or an atomic model"),
        (dict(volume="none.mrc"), "none.mrc does not exist"),
        (dict(threshold=40), "leaves an empty mask: the map's values go from"),
        (dict(threshold=9.0, relative_threshold=False), "threshold=9 leaves an empty mask"),
        (dict(threshold=-9.0, relative_threshold=False), "leaves no background"),
        (dict(threshold=-0.1), "as a fraction of the high density it must be above zero"),
        (dict(dilate="3px"), "dilate=3px cannot be used: it works on masks and volume="),
        (dict(invert=True), "invert=true cannot be used: it works on masks"),
        (dict(unite="{files}/mask.mrc"), "it works on masks"),
        (dict(write="mask"), "no mask is made, add threshold"),
        (dict(threshold=0.3, dilate=-40), "nothing is left of the mask, shrink it less"),
        (dict(threshold=0.3, unite="{files}/unknown.mrc"), "has 40 voxels per edge but the map has 32"),
        (dict(threshold=0.3, subtract="{files}/blob.mrc"), "must have values from 0 to 1"),
        (dict(threshold=0.3, intersect="{files}/empty.mrc"), "is empty"),
        (dict(low_pass=3), "low_pass=3 cannot be used: it must lie between Nyquist, 4 Å, and the edge"),
        (dict(high_pass=100), "edge of the box, 64 Å"),
        (dict(symmetry="Q3"), "symmetry=Q3 cannot be used"),
        (dict(rotate=[1, 2]), "write three numbers"),
        (dict(box_size=4), "from 8 to 1000000 pixels"),
        (dict(like="{files}/odd.mrc", box_size=20), "gives the grid already"),
        (dict(like="{files}/two.pdb"), "is an atomic model, which has no grid"),
        (dict(like="{files}/flat.mrc"), "not a cube: pad it to one with job=volume_tools volume={files}/flat.mrc first"),
        (dict(like="{files}/text.mrc"), "text.mrc has 5 bytes"),
        (dict(like="{files}/bare.mrc"), "like={files}/bare.mrc does not state its pixel size"),
        (dict(erase=[1, 2, 3]), "erase=[1.0, 2.0, 3.0] cannot be used: write it as [[x,y,z,radius],...]"),
        (dict(erase=[[99, 2, 3, 4]]), "(99, 2, 3) lies outside the box, whose voxels are 0 to 31"),
        (dict(keep=[[1, 2, 3, 0]]), "needs a radius above zero"),
        (dict(erase=[[16, 16, 16, 60]]), "leaves nothing of the volume"),
        (dict(segment__method="watershed"), "it cuts what lies above a threshold"),
        (dict(threshold=0.3, segment__method="components", segment__labels=[]), "write numbers, [1,2]"),
        (dict(threshold=0.3, segment__labels=[1]), "add segment.method=watershed"),
        (
            dict(threshold=0.3, segment__method="components", segment__labels=[99]),
            "segment.labels=[99] cannot be used: There is no segment 99: they are numbered 1 to",
        ),
        (
            dict(threshold=0.3, segment__method="components", segment__points=[[1, 1, 40]]),
            "The point (1, 1, 40) lies outside the box",
        ),
        (
            dict(threshold=0.3, segment__method="components", segment__points=[[0, 0, 0]]),
            "The point (0, 0, 0) lies in no segment; the nearest is segment",
        ),
        (
            dict(threshold=0.3, segment__method="components", segment__min_volume=1e9),
            "leaves nothing: the largest segment chosen has",
        ),
        (dict(select="A"), "select=A cannot be used: it is for atomic models"),
        (dict(center=True), "it is for atomic models and for like=<map>"),
        (dict(volume="{files}/two.pdb"), "needs one, add resolution=6"),
        (dict(volume="{files}/two.pdb", resolution=6), "needs a grid, add like=<map>, or pixel_size"),
        (dict(volume="{files}/two.pdb", resolution=6, pixel_size=2), "box_size=<voxels>, 24 for example"),
        (dict(volume="{files}/two.pdb", resolution=3, pixel_size=2, box_size=40), "at least two pixels, 4 Å"),
        (dict(volume="{files}/two.pdb", resolution=6, pixel_size=2, box_size=16), "is too small for"),
        (dict(volume="{files}/two.pdb", resolution=6, like="{files}/away.mrc"), "lies outside like="),
        (dict(volume="{files}/two.pdb", resolution=6, like="{files}/blob.mrc", select="Z"), "its chains are A, B"),
        (dict(volume="{files}/two.pdb", resolution=6, new_pixel_size=3), "made with pixel_size"),
        (dict(volume="{files}/two.pdb", resolution=6, like="{files}/blob.mrc", select="B/100-200"), "chain B has residues 21 to 40"),
        (dict(volume="{files}/two.pdb", resolution=6, pixel_size=2, box_size=20, center=False), "add center=true to put it"),
        (dict(volume="{files}/two.pdb", resolution=6, like="{files}/small.mrc", center=True), "pad that map with job=volume_tools box_size=24"),
        (dict(threshold=0.3, soften="20px"), "soften=20px cannot be used: that is more than half the box, 16 voxels or 32 Å"),
        (dict(erase=[[16, 16, 16, 2]], sphere_edge=33), "sphere_edge=33 cannot be used: that is more than half the box"),
        (dict(threshold=-0.0339, relative_threshold=False, dilate="3px"), "fills the whole box"),
        (dict(new_pixel_size=0.001), "new_pixel_size=0.001 cannot be used: maps of 64000 voxels per edge need"),
        (dict(box_size=50000), "box_size=50000 cannot be used: maps of 50000 voxels"),
        (dict(volume="{files}/two.pdb", resolution=6, pixel_size=2, box_size=50000), "box_size=50000 cannot be used: maps of"),
        (dict(new_pixel_size="3px"), "new_pixel_size=3px is in pixels"),
        (dict(erase=[[16, 16, 16, "2px"]]), "erase must be a list of lists of plain numbers such as [[0,1],[2,3]]"),
        (dict(volume="{files}/stack.mrcs"), "is a stack of images: name a map"),
    ],
)  # fmt: skip
def test_refusals_are_one_sentence(bad: Path, tmp_path: Path, changes: dict, said: str) -> None:
    filled = {k: v.format(files=bad) if isinstance(v, str) else v for k, v in changes.items()}
    message = refused(tmp_path, **{"volume": f"{bad}/blob.mrc", **filled})
    assert said.format(files=bad) in message, message


@pytest.fixture(scope="module")
def bad(files: Path, model: Path) -> Path:
    """The good files, and such as cannot be used."""
    (files / "two.pdb").write_text(model.read_text())
    (files / "text.mrc").write_text("hello")
    write_volume(files / "stack.mrcs", torch.ones(9, 8, 8), PX)
    write_volume(files / "small.mrc", torch.rand(8, 8, 8), PX)
    write_volume(files / "empty.mrc", torch.zeros(32, 32, 32), PX)
    shapes = {"flat": (4, 8, 8), "bare": (8, 8, 8), "away": (32, 32, 32), "unknown": (40, 40, 40)}
    for name, shape in shapes.items():
        with mrcfile.new(files / f"{name}.mrc") as file:
            file.set_data(np.ones(shape, np.float32))
            if name == "away":
                file.voxel_size = PX
                file.header.origin.x = 500
    return files


def test_results_are_not_replaced_unasked(files: Path, tmp_path: Path) -> None:
    common = dict(volume=f"{files}/blob.mrc")
    edit(tmp_path / "a", **common, threshold=0.3)
    with pytest.raises(InputError, match="add overwrite=true"):
        edit(tmp_path / "a", **common)
    edit(tmp_path / "a", **common, overwrite=True)
    assert not (tmp_path / "a" / "mask.mrc").exists()  # of the run before
    with pytest.raises(InputError, match="is an input of this job"):
        edit(tmp_path / "a", volume=f"{tmp_path}/a/map.mrc", overwrite=True)


def test_a_hard_or_narrow_edge_is_spoken_of(files: Path, tmp_path: Path) -> None:
    source = f"{files}/blob.mrc"
    _, hard = edit(tmp_path / "a", volume=source, threshold=0.3)
    assert "add soften=15" in hard["warnings"][0]
    _, narrow = edit(tmp_path / "b", volume=source, threshold=0.3, soften="4px", resolution=8)
    assert "At 8 Å a soft edge of 20 Å is advised" in narrow["warnings"][0]
    _, wide = edit(tmp_path / "c", volume=source, threshold=0.3, soften="6px", resolution=2)
    assert not [w for w in wide["warnings"] if "edge of" in w or "hard" in w]


def faces(mask: torch.Tensor) -> float:
    """The largest value on the faces of the box."""
    return max(float(mask.select(axis, end).max()) for axis in range(3) for end in (0, -1))


def test_a_mask_ends_where_the_box_does(tmp_path) -> None:
    """Narrower there, as wide as asked for elsewhere; said, and warned of where there is hardly any room."""
    ball = radius(48, (12, 24, 24)) <= 8
    write_volume(tmp_path / "m.mrc", ball.float(), PX)
    common = dict(volume=f"{tmp_path}/m.mrc", dilate=4, soften=12)
    mask, said = edit(tmp_path / "a", **common)
    assert faces(mask) == 0 and (mask[ball] == 1).all()
    assert "Soft edge of 6 voxels, 12 Å, narrower where the box ends 8 Å from it" in said["steps"]
    assert not said["warnings"]
    assert mask[24, 24, 20:30].tolist() == pytest.approx(
        [1, 1, 1, *(0.5 + 0.5 * math.cos(math.pi * t / 6) for t in range(1, 7)), 0],
        abs=1e-5,
    )
    write_volume(tmp_path / "m.mrc", (radius(48, (9, 24, 24)) <= 8).float(), PX)
    mask, said = edit(tmp_path / "b", **common)
    assert faces(mask) == 0
    assert "comes within 2 Å of the border of the box" in said["warnings"][0]
    plain, said = edit(tmp_path / "c", volume=f"{tmp_path}/m.mrc")
    assert faces(plain) == 0
    write_volume(tmp_path / "m.mrc", (radius(48, (6, 24, 24)) <= 8).float(), PX)
    _, said = edit(tmp_path / "d", volume=f"{tmp_path}/m.mrc")
    assert "or add soften=15 to let it end there" in said["warnings"][-1]
    mask, said = edit(tmp_path / "e", volume=f"{tmp_path}/m.mrc", soften=15)
    assert faces(mask) == 0


@pytest.mark.data
@pytest.mark.parametrize("name", ["relion_c1/truth/truth", "real_apoferritin/model"])
def test_the_recipe_of_the_readme_makes_masks_for_the_particles_box(
    shared_data: Path, repository: Path, tmp_path: Path, name: str
) -> None:
    """The line itself: holds the molecule, is soft and ends in the box, though a molecule comes near its border."""
    (recipe,) = [
        line for line in (repository / "README.md").read_text().splitlines() if "# a mask" in line
    ]
    assert (
        recipe.split("#")[0].split("volume=map.mrc")[1].strip()
        in (repository / "configs/job/volume_tools.yaml").read_text()
    )
    given = dict(word.split("=") for word in recipe.split("#")[0].split()[3:])
    values = {key: float(value) for key, value in given.items()}
    source = shared_data / f"{name}.mrc.gz"
    mask, summary = edit(tmp_path / "a", volume=str(source), **values)
    volume, pixel_size = read_volume(source)
    assert mask.shape == volume.shape and summary["pixel_size"] == pytest.approx(pixel_size)
    assert faces(mask) == 0
    power = volume.clamp(min=0).square()
    assert float((mask * power).sum() / power.sum()) > 0.99
    assert summary["warnings"] == []
    assert 0.7 < summary["mask"]["edge_width"] * pixel_size / values["soften"] < 1.3


def test_the_outside_of_a_molecule_weighs_nothing(files: Path, tmp_path: Path) -> None:
    common = dict(volume=f"{files}/mask.mrc", soften="4px", dilate="1px")
    mask, summary = edit(tmp_path / "a", **common)
    inside = int((read_volume(files / "mask.mrc")[0] > 0.5).sum())
    assert summary["mask"]["protein_mass_kda"] == pytest.approx(inside * PX**3 / 1210)
    assert summary["mask"]["fraction_of_box"] == pytest.approx(float(mask.mean()), rel=1e-5)
    assert "the mask read has room for" in (tmp_path / "a" / "log.txt").read_text()
    _, summary = edit(tmp_path / "b", **common, invert=True)
    assert summary["mask"]["protein_mass_kda"] is None
    assert "kDa" not in (tmp_path / "b" / "log.txt").read_text()
