"""Poses against closed forms and RELION: operators on the right of the rotation, centres on the right side of the origin."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.api.projection import project
from cryotorch.data.cryosparc.carried_columns import LIST
from cryotorch.data.cryosparc.file import read_cs, write_cs
from cryotorch.data.particle_file import read_particles, write_tables
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs.curation.particle_list import UID, read_list
from cryotorch.jobs.curation.poses import (
    OPERATOR,
    PARENT,
    SOURCE_UID,
    columns_of,
    expanded,
    one_of_each_image,
    recentred,
)
from cryotorch.ops.geometry.placement import shift_volume
from cryotorch.ops.geometry.rotations import euler_to_matrix, from_rotation_vector, rotation_angle
from cryotorch.ops.geometry.symmetry import point_group

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
BOX, PIXEL = 48, 1.5


def blobs(centre: np.ndarray, n: int = BOX, pixel_size: float = PIXEL) -> torch.Tensor:
    """Gaussians of 3 Å about points (m, 3), (x, y, z) Å from the middle: one bright, one fainter, one faintest, and so on."""
    line = (torch.arange(n) - n // 2) * pixel_size
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    place, volume = torch.stack([x, y, z], -1), torch.zeros(n, n, n)
    for number, point in enumerate(torch.from_numpy(centre).float()):
        volume += (3 - number % 3) * torch.exp(-((place - point) ** 2).sum(-1) / 18)
    return volume


PLACES = np.array([[9.0, -3.0, 4.5], [-6.0, 7.5, 0.0], [1.5, 3.0, -10.5]])


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first.ravel(), second.ravel()]))[0, 1])


def test_a_recentred_list_shows_the_moved_map(make_list) -> None:
    """The same images, from the map moved by -point at the new origins; from the map moved the other way they differ."""
    some = make_list(12)
    point = np.array([4.5, -3.0, 6.0])
    volume, moved = blobs(PLACES), blobs(PLACES - point)
    rotation = some.rotation().float()
    images = project(volume, rotation, torch.from_numpy(some.shift()).float(), pixel_size=PIXEL)
    new = recentred(some, point)
    assert torch.equal(new.rotation(), some.rotation())
    shift = torch.from_numpy(new.shift()).float()
    assert correlation(project(moved, rotation, shift, pixel_size=PIXEL), images) > 0.999
    wrong = project(blobs(PLACES + point), rotation, shift, pixel_size=PIXEL)
    assert correlation(wrong, images) < 0.8
    by_job = shift_volume(volume, torch.from_numpy(-point / PIXEL).float())
    assert correlation(by_job, moved) > 0.999


def test_the_new_middle_is_where_the_point_is_seen(make_list) -> None:
    """Closed form: a Gaussian at the point lies at (R point) - s in the image, where the new origin, -s, says that the particle is."""
    some, point = make_list(9), np.array([10.0, 4.0, -7.0])
    old = torch.from_numpy(some.shift()).float()
    at = project(blobs(np.array([point] * 3)), some.rotation().float(), old, pixel_size=PIXEL)
    line = (torch.arange(BOX) - BOX // 2) * PIXEL
    weight = at.clamp(min=0.2 * float(at.max())) - 0.2 * at.max()
    total = weight.sum((1, 2))
    place = torch.stack([weight.sum(1) @ line / total, weight.sum(2) @ line / total], 1)
    new = recentred(some, point).shift()
    assert np.abs(new - some.shift()).max() > 5
    assert np.allclose(place.numpy(), -new, atol=0.1)


def test_the_error_of_the_rotation_moves_the_new_centre(make_list) -> None:
    """sigma_s^2 + sigma_r^2 (z^2 + (x^2 + y^2) / 2), by drawing."""
    sigma = {"cryotorchRotationSigma": np.full(3, 2.0), "cryotorchShiftSigma": np.full(3, 0.4)}
    some, point = make_list(3, **sigma), np.array([12.0, 3.0, -8.0])
    found = recentred(some, point).numbers("cryotorchShiftSigma")
    place = (some.rotation() @ torch.from_numpy(point)).numpy()
    draw = np.random.default_rng(0)
    for row in range(3):
        turn = draw.normal(0, np.deg2rad(2), (40000, 3))
        moved = np.cross(turn, place[row])[:, :2] + draw.normal(0, 0.4, (40000, 2))
        assert found[row] == pytest.approx(np.sqrt((moved**2).mean()), rel=0.02)


def test_a_point_outside_of_the_images_is_refused(make_list) -> None:
    with pytest.raises(InputError, match=r"outside of the images of [0-9]+ particles"):
        recentred(make_list(), np.array([0.0, 60.0, 0.0]))


@pytest.mark.parametrize("symmetry", ["C4", "D7", "O"])
def test_expanded_particles_show_the_same_images(make_list, symmetry: str) -> None:
    """A map of the symmetry looks the same at R S; at S R it does not."""
    group = point_group(symmetry)
    copies = (group @ torch.from_numpy(2 * PLACES).double().T).mT.flatten(0, 1).numpy()
    volume = blobs(copies, 32, 2.2)
    some = make_list(2)
    many = expanded(some, symmetry)
    g = len(group)
    assert len(many) == 2 * g
    images = project(volume, many.rotation().float(), pixel_size=2.2).view(2, g, 32, 32)
    worst = min(correlation(images[:, copy], images[:, 0]) for copy in range(1, g))
    left = (group[1] @ some.rotation()).float()
    wrong = correlation(project(volume, left, pixel_size=2.2), images[:, 0])
    assert worst > 0.999 and 1 - wrong > 20 * (1 - worst)


def test_rows_keep_everything_of_their_particle(make_list) -> None:
    some = make_list(10, optics={"rlnOpticsGroup": ["3", "4"]})
    many = expanded(some, "D2")
    assert np.array_equal(many.numbers(PARENT), np.repeat(np.arange(1, 11), 4))
    assert np.array_equal(many.numbers(OPERATOR), np.tile([1, 2, 3, 4], 10))
    for label in some.table:
        first = many.table.raw(label).reshape(10, 4)
        assert np.array_equal(first[:, 0], some.table.raw(label)), label
        if label not in ANGLES:
            assert (first == first[:, :1]).all(), label
    for refused in (many, many.without([OPERATOR]).taken(np.arange(8))):
        with pytest.raises(InputError, match=r"expand_symmetry=C2 cannot .*one_per_image=true"):
            expanded(refused, "C2")
    with pytest.raises(InputError, match="has no poses"):
        expanded(some.without([*ANGLES]), "C2")


def test_and_back(make_list) -> None:
    """From the first rows to the digit, from any other row to the same orientation."""
    some = make_list(10)
    many = expanded(some, "D7")
    back, rows, undone = one_of_each_image(many, None)
    assert undone == 0 and rows.tolist() == list(range(0, 140, 14))
    assert back.table == some.table
    draw = np.random.default_rng(0).permutation(140).astype(float)
    back, rows, undone = one_of_each_image(many, draw)
    best = draw.reshape(10, 14).argmax(1)
    assert np.array_equal(rows, best + 14 * np.arange(10)) and undone == (best > 0).sum()
    assert float(rotation_angle(back.rotation(), some.rotation()).max()) < 1e-6
    assert set(back.table) == set(some.table)
    with pytest.raises(InputError, match="are no symmetry and its operators"):
        one_of_each_image(many.with_columns({OPERATOR: np.full(140, 15)}), None)


def test_of_cryosparc_the_uid_is_kept_apart_and_comes_back(make_list, tmp_path: Path) -> None:
    some = make_list(5)
    write_tables(tmp_path / "a.cs", some.tables)
    fields = read_cs(tmp_path / "a.cs")
    fields["uid"] = np.arange(2**63, 2**63 + 5, dtype=np.uint64)
    fields["alignments3D/pose"] *= np.float32(0.98)  # what a STAR file would round
    write_cs(tmp_path / "b.cs", fields)
    one = read_list(str(tmp_path / "b.cs"))[0]
    many = expanded(one, "C3")
    assert UID not in many.table and LIST in many.tables
    write_tables(tmp_path / "many.cs", many.tables)
    found = read_cs(tmp_path / "many.cs")
    assert len(np.unique(found["uid"])) == 15
    assert np.array_equal(found["sym_expand/src_uid"], np.repeat(fields["uid"], 3))
    rotation = from_rotation_vector(torch.from_numpy(fields["alignments3D/pose"]).double()).mT
    vector = torch.from_numpy(found["alignments3D/pose"]).double()
    turned = (rotation[:, None] @ point_group("C3")).flatten(0, 1)
    assert float(rotation_angle(from_rotation_vector(vector).mT, turned).max()) < 1e-5
    again = read_list(str(tmp_path / "many.cs"))[0]
    assert SOURCE_UID in again.table
    back, _, _ = one_of_each_image(again, None)
    write_tables(tmp_path / "back.cs", back.tables)
    assert np.array_equal(read_cs(tmp_path / "back.cs")["uid"], fields["uid"])
    assert np.allclose(
        read_cs(tmp_path / "back.cs")["alignments3D/pose"], fields["alignments3D/pose"], atol=1e-6
    )


def test_what_is_forgotten_is_gone_in_both_formats(make_list, tmp_path: Path) -> None:
    some = make_list(6)
    write_tables(tmp_path / "a.cs", some.tables)
    one = read_list(str(tmp_path / "a.cs"))[0]
    gone = columns_of(["angles", "origins", "half_sets"])
    for ending in ("star", "cs"):
        write_tables(tmp_path / f"b.{ending}", one.without(gone).tables)
        read = read_particles(tmp_path / f"b.{ending}", need_images=False)
        assert not read.particles.has_pose and (read.particles.half == -1).all()
        assert not read.particles.shift.any()
        assert np.allclose(read.particles.defocus[:, 0], some.numbers("rlnDefocusU"), atol=0.01)


def relion(folder: Path, command: str) -> dict[str, np.ndarray]:
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    table = read_star(folder / "out.star")["particles"]
    return {label: table.floats(label) for label in (*ANGLES, "rlnOriginXAngst", "rlnOriginYAngst")}


@pytest.mark.relion
@pytest.mark.parametrize("symmetry", ["D7", "O", "I3"])
def test_orientations_are_those_of_relion(make_list, tmp_path: Path, symmetry: str) -> None:
    """In any order."""
    some = make_list(4)
    write_tables(tmp_path / "in.star", some.tables)
    command = f"relion_particle_symmetry_expand --i in.star --o out.star --sym {symmetry}"
    found = relion(tmp_path, command)
    angles = (torch.from_numpy(np.deg2rad(found[label])) for label in ANGLES)
    theirs = euler_to_matrix(*angles)
    ours = expanded(some, symmetry).rotation()
    assert len(theirs) == len(ours)
    shift = np.stack([found["rlnOriginXAngst"], found["rlnOriginYAngst"]], 1)
    parent = np.abs(shift[:, None] - some.shift()).sum(2).argmin(1)
    for row in range(4):
        mine, other = ours.view(4, -1, 3, 3)[row], theirs[torch.from_numpy(parent == row)]
        apart = rotation_angle(mine[:, None], other[None])
        assert len(other) == len(mine)
        assert float(apart.amin(1).max()) < 1e-4 and float(apart.amin(0).max()) < 1e-4


@pytest.mark.relion
def test_a_new_centre_is_that_of_relion(make_list, tmp_path: Path) -> None:
    some = make_list(6)
    write_tables(tmp_path / "in.star", some.tables)
    # in pixels of 1.5 Å
    command = "relion_star_handler --i in.star --o out.star --center --center_X 6 --center_Y -4 --center_Z 2"
    found = relion(tmp_path, command)
    new = recentred(some, np.array([9.0, -6.0, 3.0]))
    for label in ("rlnOriginXAngst", "rlnOriginYAngst"):
        assert np.allclose(found[label], new.numbers(label), atol=1e-3)


def test_the_magnification_counts(make_list) -> None:
    """A point p lies at M^T (R p) - s, as the image's transform at k is the map's at R^T M k."""
    matrix = dict(
        zip(
            ("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11"),
            "1.05 0.02 -0.01 0.96".split(),
            strict=True,
        )
    )
    some = make_list(5, optics={label: [value] for label, value in matrix.items()})
    point = np.array([9.0, -12.0, 15.0])
    place = np.einsum("nij,j->ni", some.rotation().numpy(), point)[:, :2]
    m = np.array([[1.05, 0.02], [-0.01, 0.96]])
    assert np.allclose(recentred(some, point).shift(), some.shift() - place @ m, atol=1e-5)
    each = np.arange(5)[:, None] / 5 * point
    assert np.allclose(
        recentred(some, each).shift(),
        some.shift() - np.arange(5)[:, None] / 5 * (place @ m),
        atol=1e-5,
    )
