"""Heterogeneous refinement and 2D classification of CryoSPARC: which pose, which particles, what is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.data.cryosparc.alignments import pick_alignment
from cryotorch.data.cryosparc.file import read_cs, write_cs
from cryotorch.data.particle_file import read_particles, write_particles, write_tables
from cryotorch.errors import InputError
from cryotorch.findings import codes

PATH, N, K = Path("p.cs"), 12, 3
BEST = np.arange(N) % 4 % K  # 6, 3 and 3 particles


@pytest.fixture
def plain(particle_set) -> dict[str, np.ndarray]:
    """Particles of a .cs file with poses."""
    particle_set.add_poses()
    file = read_particles(particle_set.write())
    write_tables(particle_set.folder / "plain.cs", file.tables)
    fields = read_cs(particle_set.folder / "plain.cs")
    return {x: v for x, v in fields.items() if not x.startswith("star")}


def several(plain, layout: str, same_as: np.ndarray = BEST) -> dict[str, np.ndarray]:
    """The same with wrong poses against all classes but those of ``same_as``, in either layout."""
    fields = {x: v for x, v in plain.items() if not x.startswith("alignments3D/")}
    rng = np.random.default_rng(0)
    inner = {"pose": (3,), "shift": (2,), "psize_A": (), "split": ()}
    each = {x: rng.uniform(1, 2, (N, K, *inner[x])).astype(np.float32) for x in inner}
    each["split"] = np.zeros((N, K), np.uint32)
    for name, values in each.items():
        values[np.arange(N), same_as] = plain[f"alignments3D/{name}"]
    each["class"] = np.tile(np.arange(K, dtype=np.uint32), (N, 1))
    each["class_posterior"] = np.full((N, K), 0.1, np.float32)
    each["class_posterior"][np.arange(N), same_as] = 0.8
    if layout == "new":
        each["psize_A"], each["split"] = plain["alignments3D/psize_A"], plain["alignments3D/split"]
        return fields | {f"alignments3D_multi/{x}": v for x, v in each.items()}
    return fields | {
        f"alignments_class_{k}/{x}": v[:, k].copy() for k in range(K) for x, v in each.items()
    }


def read(folder: Path, fields, **options):
    write_cs(folder / "a.cs", fields)
    return read_particles(folder / "a.cs", **options)


@pytest.mark.parametrize("layout", ["new", "old"])
def test_the_pose_of_the_most_probable_class_is_taken_and_said(particle_set, plain, layout):
    wanted = read(particle_set.folder, plain).particles
    found = read(particle_set.folder, several(plain, layout))
    assert torch.allclose(found.particles.rotation, wanted.rotation, atol=1e-6)
    assert torch.allclose(found.particles.shift, wanted.shift, atol=1e-5)
    assert found.particles.has_pose and found.particles.half.equal(wanted.half)
    assert found.tables["particles"].integers("rlnClassNumber").tolist() == (BEST + 1).tolist()
    family = {"new": "alignments3D_multi", "old": "alignments_class_<k>"}[layout]
    assert len(found.messages) == 1
    assert found.messages[0]["family"] == family
    assert found.messages[0]["counts"] == "0: 6, 1: 3, 2: 3"


@pytest.mark.parametrize("layout", ["new", "old"])
def test_a_chosen_class_is_read_alone(particle_set, plain, layout):
    wanted = read(particle_set.folder, plain).particles[torch.from_numpy(BEST == 2)]
    found = read(particle_set.folder, several(plain, layout), of_class=2)
    assert torch.allclose(found.particles.rotation, wanted.rotation, atol=1e-6)
    assert found.particles.address[:, 1].tolist() == wanted.address[:, 1].tolist() == [2, 6, 10]
    assert found.messages[0].code == "class_taken"
    assert [found.messages[0][name] for name in ("particles", "taken", "class")] == [12, 3, 2]
    with pytest.raises(InputError, match=r"class=5 .* choose one of 0 \(6\), 1 \(3\), 2 \(3\)"):
        read(particle_set.folder, several(plain, layout), of_class=5)


@pytest.mark.parametrize("layout", ["new", "old"])
def test_nothing_is_lost_on_the_way_to_star_and_back(particle_set, plain, layout):
    fields = several(plain, layout)
    found = read(particle_set.folder, fields)
    write_tables(particle_set.folder / "a.star", found.tables)
    star = read_particles(particle_set.folder / "a.star")
    assert torch.allclose(star.particles.rotation, found.particles.rotation, atol=1e-6)
    write_tables(particle_set.folder / "back.cs", star.tables)
    back = read_cs(particle_set.folder / "back.cs")
    assert all(np.array_equal(back[name], values) for name, values in fields.items())
    poses = back["alignments3D/pose"]  # of the class that was taken, for programs that know one
    assert np.allclose(poses, plain["alignments3D/pose"], atol=1e-6)


def test_poses_that_are_there_stay_unless_a_class_is_chosen(plain):
    other = (BEST + 1) % K
    fields = {**plain, **several(plain, "new", other)}
    fields["alignments3D/pose"] = plain["alignments3D/pose"] + np.float32(0.5)
    same, aligned, messages = pick_alignment(fields, None, PATH)
    assert same is fields and aligned == {} and codes(messages) == ["class_poses_unused"]
    rest, aligned, _ = pick_alignment(fields, 1, PATH)
    assert len(rest["uid"]) == (other == 1).sum()
    assert np.array_equal(aligned["alignments3D/pose"], plain["alignments3D/pose"][other == 1])


def test_classes_without_poses_number_the_particles(plain):
    """3D classification at fixed poses."""
    fields = {**plain, **several(plain, "new")}
    for name in ("pose", "shift", "psize_A", "split"):
        del fields[f"alignments3D_multi/{name}"]
    _, aligned, messages = pick_alignment(fields, None, PATH)
    assert list(aligned) == ["alignments3D/class"] and messages[0]["what"] == "number"
    assert np.array_equal(aligned["alignments3D/class"], BEST)


def test_single_class_numbers_choose_too(particle_set, plain):
    fields = {**plain, "alignments3D/class": BEST.astype(np.uint32)}
    assert len(read(particle_set.folder, fields, of_class=0).particles) == 6
    del fields["alignments3D/class"]
    with pytest.raises(InputError, match=r"class=1 cannot be used: .* says of no particle which"):
        read(particle_set.folder, fields, of_class=1)
    particle_set.particles["rlnClassNumber"] = BEST + 1
    del particle_set.particles["rlnRandomSubset"]  # class 2 lies in one of them
    file = read_particles(particle_set.write(), of_class=2)  # as RELION counts
    assert file.particles.address[:, 1].tolist() == [1, 5, 9]
    assert file.tables["particles"]["rlnMicrographName"].tolist() == [
        "mic1.mrc",
        "mic5.mrc",
        "mic9.mrc",
    ]


@pytest.mark.parametrize("name", ["pose", "class_posterior"])
def test_shapes_that_do_not_fit_are_refused(plain, name):
    fields = several(plain, "new")
    fields[f"alignments3D_multi/{name}"] = np.zeros((N, 7, 2), np.float32)
    with pytest.raises(InputError, match=f"alignments3D_multi/{name} of p.cs .* damaged"):
        pick_alignment(fields, None, PATH)


def planar(plain) -> dict[str, np.ndarray]:
    """After 2D classification."""
    fields = {x: v for x, v in plain.items() if not x.startswith("alignments3D/")}
    return fields | {
        "alignments2D/shift": plain["alignments3D/shift"] / 2,
        "alignments2D/psize_A": np.full(N, 5.0, np.float32),  # twice as large: classes are binned
        "alignments2D/pose": np.linspace(-3, 3, N).astype(np.float32),
        "alignments2D/class": BEST.astype(np.uint32),
        "alignments2D/class_posterior": np.ones(N, np.float32),
    }


def test_shift_angle_and_class_of_2d_classification(particle_set, plain):
    wanted = read(particle_set.folder, plain).particles
    found = read(particle_set.folder, planar(plain))
    assert not found.particles.has_pose and found.messages[0].code == "origins_of_2d"
    assert torch.allclose(found.particles.shift, wanted.shift, atol=1e-5)
    assert found.particles.shift.abs().max() > 0.5
    table = found.tables["particles"]
    assert table.integers("rlnClassNumber").tolist() == (BEST + 1).tolist()
    assert np.allclose(np.deg2rad(table.floats("rlnAnglePsi")), np.linspace(-3, 3, N), atol=1e-6)
    assert len(read(particle_set.folder, planar(plain), of_class=1).particles) == 3


def test_2d_classification_comes_back_and_follows_its_columns(particle_set, plain):
    fields = planar(plain)
    tables = read(particle_set.folder, fields).tables
    back = particle_set.folder / "back.cs"
    write_tables(back, tables)
    again = read_cs(back)
    assert list(again) == list(fields)
    assert all(again[name].tobytes() == values.tobytes() for name, values in fields.items())
    tables["particles"]["rlnOriginXAngst"] = np.full(N, 10.0)
    write_tables(back, tables)
    assert np.allclose(read_cs(back)["alignments2D/shift"][:, 0], 2.0)


def test_refined_poses_stand_beside_those_of_2d_classification(particle_set, plain):
    wanted = read(particle_set.folder, plain).particles
    file = read(particle_set.folder, planar(plain))
    write_particles(particle_set.folder / "new.cs", file, wanted)
    again = read_particles(particle_set.folder / "new.cs")
    assert torch.allclose(again.particles.rotation, wanted.rotation, atol=1e-6)
    assert torch.allclose(again.particles.shift, wanted.shift, atol=1e-5)
    assert any(
        m.code == "fields_unused" and "alignments2D/..." in m["fields"] for m in again.messages
    )


@pytest.mark.parametrize("family", ["alignments3D", "alignments2D"])
def test_shifts_without_a_pixel_size_are_in_pixels_of_the_images(particle_set, plain, family):
    """2.5 Å here."""
    fields = planar(plain) if family == "alignments2D" else dict(plain)
    name = f"{family}/psize_A"
    size = fields[name].copy()
    size[[0, 3]] = 0
    found = read(particle_set.folder, {**fields, name: size})
    values = dict(field=name, value=0.0, unknown=2, particles=12)
    assert values.items() <= found.messages[0].values.items()
    rows = torch.tensor([0, 3])
    pixels = torch.from_numpy(fields[f"{family}/shift"])
    assert torch.allclose(found.particles.shift[rows], pixels[rows] * 2.5, atol=1e-5)
    assert torch.allclose(found.particles.shift[1], pixels[1] * float(size[1]), atol=1e-5)
    write_particles(particle_set.folder / "b.cs", found, found.particles)
    again = read_particles(particle_set.folder / "b.cs")  # not divided by zero
    assert torch.allclose(again.particles.shift, found.particles.shift, atol=1e-5)


def test_other_families_are_named(particle_set, plain):
    fields = {
        **plain,
        "pick_stats/power": np.ones(N, np.float32),
        "filament/filament_uid": np.arange(N, dtype=np.uint64),
        "sym_expand/idx": np.zeros(N, np.uint32),
    }
    assert read(particle_set.folder, plain).messages == []
    (unused,) = read(particle_set.folder, fields).messages
    assert unused.code == "fields_unused" and unused["fields"] == "pick_stats/..., filament/..."
