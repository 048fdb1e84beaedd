"""The steps against the operations that they are made of, and against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import mrcfile
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.geometry.placement import crop_or_pad
from cryotorch.ops.geometry.rotations import euler_to_matrix
from cryotorch.ops.geometry.symmetry import point_group, rotate_volume, symmetry_correlation

PX = 2.0


@pytest.mark.parametrize("name", ["blob", "odd"])
def test_steps_are_the_operations_in_their_order(
    volumes: Path,
    tmp_path: Path,
    name: str,
    edit: Callable,
    radius: Callable,
    correlation: Callable,
) -> None:
    volume, _ = read_volume(volumes / f"{name}.mrc")
    result, summary = edit(
        tmp_path / "a", volume=f"{volumes}/{name}.mrc", low_pass=7, new_pixel_size=2.5, flip_hand=True,
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


def test_a_crop_and_a_pad_keep_the_middle(volumes: Path, tmp_path: Path, edit: Callable) -> None:
    volume, _ = read_volume(volumes / "blob.mrc")
    small, _ = edit(tmp_path / "a", volume=f"{volumes}/blob.mrc", box_size=21)
    assert torch.equal(small, volume[6:27, 6:27, 6:27])
    again, _ = edit(tmp_path / "b", volume=f"{tmp_path}/a/map.mrc", box_size=32)
    assert torch.equal(again[6:27, 6:27, 6:27], small) and not again[:6].any()


@pytest.mark.parametrize(("name", "other"), [("blob", "odd"), ("odd", "balls"), ("mask", "balls")])
def test_on_the_grid_of_another_map(
    volumes: Path, tmp_path: Path, name: str, other: str, edit: Callable
) -> None:
    volume, _ = read_volume(volumes / f"{name}.mrc")
    write_volume(tmp_path / "like.mrc", read_volume(volumes / f"{other}.mrc")[0], 1.5)
    with mrcfile.open(tmp_path / "like.mrc", "r+") as file:
        file.header.nxstart = -4
    result, summary = edit(
        tmp_path / "a", volume=f"{volumes}/{name}.mrc", like=f"{tmp_path}/like.mrc"
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


def test_the_frame_of_like_counts(
    tmp_path, edit: Callable, off_centre: Callable, refused: Callable
) -> None:
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
def test_a_mask_cut_out_of_a_map_lands_where_it_was(
    tmp_path, field, box, px, edit: Callable, radius: Callable
) -> None:
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


def test_conventions_of_the_origin_are_no_places(
    tmp_path, edit: Callable, off_centre: Callable
) -> None:
    """Middle at 0 and corner at 0 say nothing about each other; a crop without origin stays in the middle."""
    centred = off_centre(tmp_path, "centred.mrc", 40, (-40, -40, -40))
    bare = off_centre(tmp_path, "bare.mrc", 48, (0, 0, 0))
    for name, volume, like in (("a", centred, bare), ("b", bare, centred)):
        result, summary = edit(tmp_path / name, volume=volume, like=like)
        expected = crop_or_pad(read_volume(volume)[0], len(result))
        assert torch.allclose(result, expected, atol=1e-5) and not summary["warnings"]


def test_a_map_turned_by_a_symmetry_is_averaged(
    volumes: Path, tmp_path: Path, edit: Callable
) -> None:
    result, _ = edit(tmp_path / "a", volume=f"{volumes}/odd.mrc", symmetry="D2")
    assert float(symmetry_correlation(result, point_group("D2")).min()) > 0.999


@pytest.mark.drawn
def test_a_watershed_cuts_out_the_part_that_holds_the_point(
    inked: Callable, volumes: Path, tmp_path: Path, edit: Callable, radius: Callable
) -> None:
    common = dict(volume=f"{volumes}/balls.mrc", threshold=0.5, segment__scale="6px")
    mask, summary = edit(
        tmp_path / "a", **common, segment__method="watershed", segment__points=[24, 20, 20]
    )
    ball = radius(40, (24, 20, 20)) <= 5
    assert float(((mask > 0.5) & ball).sum() / ((mask > 0.5) | ball).sum()) > 0.95
    assert [segment["kept"] for segment in summary["segments"]] == [False, True]
    assert summary["segments"][0]["voxels"] > summary["segments"][1]["voxels"]
    assert summary["segments"][1]["centre"] == pytest.approx([24, 20, 20], abs=0.3)
    assert inked(tmp_path / "a" / "segments.png") > 0.4
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
    assert torch.allclose(cut, read_volume(volumes / "balls.mrc")[0] * mask)


def test_threshold_absolute_and_relative(volumes: Path, tmp_path: Path, edit: Callable) -> None:
    source = f"{volumes}/blob.mrc"
    volume, _ = read_volume(source)
    absolute, _ = edit(tmp_path / "a", volume=source, threshold=0.02, relative_threshold=False)
    assert torch.equal(absolute > 0, volume > 0.02)
    relative, _ = edit(tmp_path / "b", volume=source, threshold=0.4)
    high = volume.flatten().sort().values[-round(1e-4 * volume.numel())]
    assert torch.equal(relative > 0, volume > 0.4 * high)


def test_holes_pieces_growth_and_soft_edge(
    tmp_path: Path, edit: Callable, radius: Callable
) -> None:
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


def test_masks_combined_and_inverted(tmp_path: Path, edit: Callable, radius: Callable) -> None:
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


def test_a_mask_ends_where_the_box_does(
    tmp_path, edit: Callable, radius: Callable, faces: Callable
) -> None:
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
@pytest.mark.parametrize(
    ("name", "symmetry"), [("betaGal.mrc.gz", "D2"), ("trpv1_volume.mrc", "C4")]
)
def test_a_flip_keeps_the_symmetry_and_changes_the_map(
    shared_data, tmp_path, name, symmetry, edit: Callable, correlation: Callable
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
