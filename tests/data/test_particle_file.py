from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryotorch.data.cryosparc.file import read_cs, write_cs
from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import (
    new_particle_file,
    read_particles,
    write_particles,
    write_tables,
)
from cryotorch.data.star import Table, read_star, write_star
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.ops.geometry.rotations import euler_to_matrix, random_rotations, rotation_angle
from cryotorch.particles import Optics, unposed
from cryotorch.report.sentences import say

N = 12


def test_reads_relion_31(particle_set):
    particle_set.add_poses()
    particle_set.particles["rlnPhaseShift"] = np.full(N, 90.0)
    file = read_particles(particle_set.write())
    p = file.particles
    assert (len(p), file.box, file.pixel_size, file.messages) == (N, 16, 2.5, [])
    assert file.stacks == [particle_set.stack]
    assert p.address.tolist() == [[0, i] for i in range(N)]
    assert p.half.tolist() == [0, 1] * 6
    assert p.has_pose
    columns = particle_set.particles
    angles = [
        torch.from_numpy(np.deg2rad(columns.floats(f"rlnAngle{x}"))) for x in ("Rot", "Tilt", "Psi")
    ]
    assert rotation_angle(p.rotation, euler_to_matrix(*angles)).max() < 1e-6
    assert p.shift[:, 1].tolist() == pytest.approx(
        columns.floats("rlnOriginYAngst").tolist(), abs=1e-6
    )
    assert p.defocus[3].tolist() == pytest.approx(
        [
            columns.floats(f"rlnDefocus{x}")[3] * (math.pi / 180 if x == "Angle" else 1)
            for x in ("U", "V", "Angle")
        ]
    )
    assert p.phase_shift.tolist() == pytest.approx([math.pi / 2] * N)
    assert p.scale.tolist() == [1] * N
    for tensor in (p.rotation, p.shift, p.defocus, p.phase_shift, p.scale, p.pose_sigma):
        assert tensor.dtype == torch.float32


def test_without_poses(particle_set):
    p = read_particles(particle_set.write()).particles
    assert not p.has_pose
    assert torch.equal(p.rotation, torch.eye(3).repeat(N, 1, 1))
    assert p.half.tolist() == [-1] * N


@pytest.mark.parametrize("label", ["rlnOriginXAngst", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"])
def test_half_a_pose_is_refused(particle_set, label):
    particle_set.add_poses()
    del particle_set.particles[label]
    with pytest.raises(InputError, match=f"has _rln.* but no _{label}: add"):
        read_particles(particle_set.write())


def test_half_an_origin_in_pixels_is_refused_and_psi_alone_is_not(particle_set):
    particle_set.particles["rlnAnglePsi"] = np.ones(N)
    assert not read_particles(particle_set.write()).particles.has_pose
    particle_set.particles["rlnOriginY"] = np.ones(N)
    with pytest.raises(InputError, match="has _rlnOriginY but no _rlnOriginX: "):
        read_particles(particle_set.write())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04\0\0"])
def test_files_of_another_kind_are_neither_star_nor_cs(tmp_path, content):
    path = tmp_path / "a.cs"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a STAR file, nor is it a \.cs file"):
        read_particles(path)


def test_numbers_that_occur_twice_are_refused_or_told(particle_set, tmp_path):
    file = read_particles(particle_set.write())
    path = particle_set.folder / "a.cs"
    write_particles(path, file, file.particles)
    assert read_particles(path).messages == []
    fields = read_cs(path)
    write_cs(path, {**fields, "uid": fields["uid"] // fields["uid"] * np.uint64(5)})
    with pytest.raises(
        InputError, match=r"gives 1 of its uid to more than one particle, .* 5: keep"
    ):
        read_particles(path)
    (twice,) = read_particles(path, need_images=False).messages
    assert twice.code == "uid_twice" and "gives 1 of its uid" in say(twice)


@pytest.mark.parametrize("need_images", [True, False])
@pytest.mark.parametrize("ending", ["star", "cs"])
def test_rows_that_show_one_image_are_counted(particle_set, tmp_path, ending, need_images):
    """Symmetry expansion gives them, with a uid of their own."""
    file = read_particles(particle_set.write())
    for images, code in ((4, "rows_expanded"), (5, "rows_partly_expanded")):
        table = particle_set.particles.copy()
        table["rlnImageName"] = [f"{i % images + 1}@stack.mrcs" for i in range(N)]
        path = particle_set.folder / f"again.{ending}"
        write_tables(path, {**file.tables, "particles": table})
        again = read_particles(path, need_images=need_images)
        assert len(again.particles.address.unique(dim=0)) == images
        assert codes(again.messages) == [code]
        values = dict(rows=12, images=images, times=3)
        assert values.items() <= again.messages[0].values.items()


def test_nothing_is_joined_to_a_star_file(particle_set, tmp_path):
    with pytest.raises(InputError, match=r"STAR file, .* passthrough=.*x\.cs .* leave"):
        read_particles(particle_set.write(), passthrough=tmp_path / "x.cs")


def old_layout(particle_set) -> Table:
    """The same particles as RELION 3.0 has them: no optics, origins in pixels."""
    table = particle_set.particles.rename(
        {"rlnOriginXAngst": "rlnOriginX", "rlnOriginYAngst": "rlnOriginY"}
    )
    del table["rlnOpticsGroup"]
    for label, value in {
        "rlnVoltage": "300.0",
        "rlnSphericalAberration": "2.7",
        "rlnAmplitudeContrast": "0.1",
        "rlnMagnification": "40000",
        "rlnDetectorPixelSize": "10",
    }.items():
        table[label] = [value] * N
    return table


def test_relion_30_is_upgraded(particle_set, tmp_path):
    particle_set.add_poses()
    table = old_layout(particle_set)
    write_star(particle_set.star, {"": table, "notes": Table({"x": ["1"]}, single=True)})
    file = read_particles(particle_set.star)
    assert file.pixel_size == 2.5
    assert file.particles.shift[:, 0].tolist() == pytest.approx(
        (table.floats("rlnOriginX") * 2.5).tolist(), abs=1e-5
    )
    write_particles(tmp_path / "new.star", file, file.particles)
    blocks = read_star(tmp_path / "new.star")
    assert list(blocks) == ["optics", "particles", "notes"]
    assert "rlnOriginX" not in blocks["particles"]
    kept = [label for label in table if not label.startswith("rlnOrigin")]
    assert [label for label in blocks["particles"] if label in kept] == kept
    again = read_particles(tmp_path / "new.star")
    assert (again.box, again.pixel_size) == (16, 2.5)
    assert torch.allclose(again.particles.shift, file.particles.shift, atol=1e-5)
    assert again.particles.optics.voltage_kv.tolist() == [300]


def test_round_trip_updates_poses_and_keeps_the_rest(particle_set, tmp_path):
    particle_set.particles["rlnUnknown"] = [f"{i}.10000000000000e-05" for i in range(N)]
    particle_set.particles["rlnOddZernike"] = ["[1,2,3]"] * N
    blocks = {
        "optics": particle_set.optics,
        "particles": particle_set.particles,
        "more": Table({"a": ["x", "y"]}),
    }
    write_star(particle_set.star, blocks)
    file = read_particles(particle_set.star)
    generator = torch.Generator().manual_seed(0)
    new = file.particles.replace(
        rotation=random_rotations(N, generator),
        shift=torch.randn(N, 2, generator=generator) * 5,
        half=torch.arange(N) % 2,
        scale=torch.rand(N, generator=generator) + 0.5,
        pose_sigma=torch.rand(N, 2, generator=generator),
        has_pose=True,
    )
    out = tmp_path / "run" / "particles.star"
    out.parent.mkdir()
    write_particles(out, file, new, {"myScore": np.arange(N) / 3})
    again = read_particles(out)
    assert rotation_angle(again.particles.rotation, new.rotation).max() < 1e-6
    assert torch.allclose(again.particles.shift, new.shift, atol=1e-6)
    assert torch.allclose(again.particles.pose_sigma, new.pose_sigma, atol=1e-6)
    assert torch.allclose(again.particles.scale, new.scale, atol=1e-6)
    assert torch.equal(again.particles.half, new.half)
    written = read_star(out)
    assert written["more"] == blocks["more"]
    assert written["optics"] == blocks["optics"]
    table = written["particles"]
    for label in particle_set.particles:
        if label != "rlnImageName":
            assert (table.raw(label) == particle_set.particles.raw(label)).all()
    assert list(table)[: len(particle_set.particles)] == list(particle_set.particles)
    assert table["rlnImageName"][0] == f"000001@{particle_set.stack}"  # not below run/, so absolute
    assert table["myScore"][1] == "0.333333"
    assert table["rlnRandomSubset"].tolist() == ["1", "2"] * 6
    with pytest.raises(ValueError, match="1 particles for the 12 rows"):
        write_particles(out, file, unposed(1, new.optics))


def test_writing_without_poses_adds_none(particle_set, tmp_path):
    file = read_particles(particle_set.write())
    write_particles(tmp_path / "copy.star", file, file.particles)
    table = read_star(tmp_path / "copy.star")["particles"]
    assert table == particle_set.particles  # names stay relative beside the stack


def test_a_new_file_from_tensors(tmp_path):
    optics = Optics(*(torch.tensor([value]) for value in (200.0, 1.4, 0.07, 3.5)))
    particles = unposed(3, optics).replace(
        defocus=torch.tensor([[1e4, 9e3, 0.5]]).repeat(3, 1), phase_shift=torch.full((3,), 0.25)
    )
    write_stack(tmp_path / "s.mrcs", [np.zeros((3, 8, 8))], 3, 8, 3.5)
    source = new_particle_file(tmp_path / "p.star", [tmp_path / "s.mrcs"], 8, particles)
    write_particles(tmp_path / "p.star", source, particles)
    again = read_particles(tmp_path / "p.star")
    assert (again.box, again.pixel_size) == (8, 3.5)
    assert torch.allclose(again.particles.defocus, particles.defocus, atol=1e-6)
    assert torch.allclose(again.particles.phase_shift, particles.phase_shift, atol=1e-6)
    assert again.particles.optics.amplitude_contrast.tolist() == pytest.approx([0.07])
    assert not again.particles.has_pose


def test_the_star_file_overrules_the_header(particle_set):
    particle_set.optics["rlnImagePixelSize"] = ["2.450000"]  # calibrated since
    file = read_particles(particle_set.write())
    assert file.pixel_size == pytest.approx(2.45)
    assert codes(file.messages) == ["pixel_sizes_differ"]
    assert (file.messages[0]["stated"], file.messages[0]["header"]) == (2.45, 2.5)
    for meaningless in (0, 1):
        write_stack(particle_set.stack, [particle_set.images], N, 16, meaningless)
        assert read_particles(particle_set.star).messages == []


def test_of_two_origins_the_one_in_angstrom_wins(particle_set):
    particle_set.add_poses()
    particle_set.particles["rlnOriginX"] = np.full(N, 1000.0)
    assert read_particles(particle_set.write()).particles.shift.abs().max() < 10


def test_envelope_and_factor_of_a_particle(particle_set, tmp_path):
    assert read_particles(particle_set.write()).particles.bfactor is None
    particle_set.particles["rlnCtfBfactor"] = np.zeros(N)
    particle_set.particles["rlnCtfScalefactor"] = np.ones(N)
    neutral = read_particles(particle_set.write()).particles
    assert neutral.bfactor is None and neutral.ctf_scale is None
    b, factor = np.linspace(0, 55, N), np.linspace(0.4, 1, N)
    particle_set.particles["rlnCtfBfactor"], particle_set.particles["rlnCtfScalefactor"] = b, factor
    file = read_particles(particle_set.write())
    assert file.particles.bfactor.tolist() == pytest.approx(b.tolist(), abs=1e-5)
    assert file.particles.ctf_scale.tolist() == pytest.approx(factor.tolist(), abs=1e-5)
    assert file.messages == []
    source = new_particle_file(tmp_path / "new.star", file.stacks, 16, file.particles)
    write_particles(tmp_path / "new.star", source, file.particles)
    again = read_particles(tmp_path / "new.star").particles
    assert torch.allclose(again.bfactor, file.particles.bfactor)
    assert torch.allclose(again.ctf_scale, file.particles.ctf_scale)
    particle_set.particles["rlnCtfBfactor"] = -b
    (grows,) = read_particles(particle_set.write()).messages
    assert grows.code == "bfactors_negative" and grows["particles"] == 11
    assert grows["column"] == "_rlnCtfBfactor"


def test_origins_in_pixels_are_those_of_the_particles_group(particle_set):
    table = old_layout(particle_set)
    table["rlnOriginX"] = table["rlnOriginY"] = np.ones(N)
    table["rlnMagnification"] = ["40000"] * (N - 2) + ["39500"] * 2  # within a calibration
    write_star(particle_set.star, {"": table})
    file = read_particles(particle_set.star)
    sizes = [2.5] * (N - 2) + [1e5 / 39500] * 2
    assert file.pixel_size == 2.5
    assert file.particles.shift[:, 0].tolist() == pytest.approx(sizes)
    assert file.tables["particles"].floats("rlnOriginXAngst").tolist() == pytest.approx(sizes)
    assert file.particles.optics.pixel_size.tolist() == pytest.approx(sizes[-3::2])
    assert "have 2.5 to 2.53165 Å per pixel and 16 pixels: all are brought" in say(
        file.messages[-1]
    )


def test_refined_defocus_and_optics_are_written_and_the_rest_stays(particle_set, tmp_path):
    particle_set.optics["rlnBeamTiltX"] = ["0.123456789"]
    particle_set.optics["rlnOddZernike"] = ["[1,2,3,4,5,6]"]
    particle_set.optics["rlnMagMat01"] = ["0.01"]
    file = read_particles(particle_set.write())
    old = file.particles
    assert old.optics.magnification.tolist() == pytest.approx(np.array([[[1, 0.01], [0, 1]]]))
    new = old.replace(
        defocus=old.defocus + torch.tensor([100.0, 50.0, 0.1]),
        optics=old.optics.replace(
            spherical_aberration=torch.tensor([2.65]),
            beam_tilt=None,  # a job that ignores it has not measured it as 0
            odd_zernike=old.optics.odd_zernike * 2,
            even_zernike=torch.arange(9.0)[None] / 8,
            magnification=torch.tensor([[[1.01, 0.02], [0.03, 0.99]]]),
        ),
    )
    write_particles(tmp_path / "new.star", file, new)
    again = read_particles(tmp_path / "new.star").particles
    assert torch.allclose(again.defocus, new.defocus, atol=1e-5)
    for name in ("odd_zernike", "even_zernike", "magnification", "spherical_aberration"):
        assert torch.allclose(getattr(again.optics, name), getattr(new.optics, name)), name
    optics = read_star(tmp_path / "new.star")["optics"]
    assert optics["rlnBeamTiltX"].tolist() == ["0.123456789"]
    assert optics["rlnVoltage"].tolist() == ["300.000000"]
    assert "rlnBeamTiltY" not in optics
    write_particles(tmp_path / "same.star", file, old)
    assert read_star(tmp_path / "same.star") == read_star(particle_set.star)


def spoil(particle_set, kind: str) -> None:
    table, optics = particle_set.particles, particle_set.optics
    if kind == "beyond":
        table["rlnImageName"] = [*table["rlnImageName"][:-1], "13@stack.mrcs"]
    elif kind == "no stack":
        particle_set.stack.unlink()
    elif kind == "truncated":
        particle_set.stack.write_bytes(particle_set.stack.read_bytes()[:-100])
    elif kind == "box":
        optics["rlnImageSize"] = ["32"]
    elif kind == "odd box":
        write_stack(particle_set.stack, [np.zeros((N, 15, 15))], N, 15, 2.5)
    elif kind == "no ctf":
        for label in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"):
            del table[label]
    elif kind == "no amplitude contrast":
        del optics["rlnAmplitudeContrast"]
    elif kind == "not a number":
        table["rlnDefocusV"] = ["x"] * N
    elif kind == "optics group":
        table["rlnOpticsGroup"] = ["1"] * (N - 1) + ["2"]
    elif kind == "no names":
        del table["rlnImageName"]
    elif kind == "pixel size":
        optics["rlnImagePixelSize"] = ["0.250000"]
    elif kind == "micrometres":
        table["rlnDefocusU"] = table["rlnDefocusV"] = np.linspace(0.9, 1.8, N)
    elif kind == "far origin":
        table["rlnOriginXAngst"] = np.zeros(N)
        table["rlnOriginYAngst"] = [*np.zeros(N - 1), -21.0]
    elif kind == "no factor":
        table["rlnCtfScalefactor"] = np.zeros(N)
    elif kind == "two boxes":
        write_stack(particle_set.folder / "b.mrcs", [np.zeros((1, 8, 8))], 1, 8, 2.5)
        del optics["rlnImageSize"]
        table["rlnImageName"] = [*table["rlnImageName"][:-1], "1@b.mrcs"]
    elif kind == "half sets":
        table["rlnRandomSubset"] = np.arange(N) % 3 + 1
    elif kind == "subtomograms":
        optics["rlnImageDimensionality"] = [3]
    elif kind == "tilt series":
        del table["rlnImageName"]
        table["rlnTomoName"] = ["TS_01"] * N
    elif kind == "tilt images":
        table["rlnTomoVisibleFrames"] = ["[1,1,0]"] * N
    elif kind == "no rows":
        particle_set.particles = Table({label: [] for label in table})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("half sets", "_rlnRandomSubset of .* has 3 values, 1, 2, 3, .* half_sets=resplit"),
        ("subtomograms", r"subtomograms .*\(_rlnImageDimensionality is 3\).* in RELION"),
        ("tilt series", r"tilt series \(it has _rlnTomoName\)"),
        ("tilt images", r"pseudo-subtomograms, .*\(it has _rlnTomoVisibleFrames\)"),
        ("beyond", "Image 13 of .* is asked for, but the stack holds 12"),
        ("no stack", r"Image stack stack\.mrcs of .* does not exist"),
        ("truncated", "truncated: image 12 of the 12"),
        ("box", "_rlnImageSize is 32 in .* have 16 pixels"),
        ("odd box", "must be even, got 15"),
        ("no ctf", "no CTF: column _rlnDefocusU, _rlnDefocusV, _rlnDefocusAngle is missing"),
        ("no amplitude contrast", "no _rlnAmplitudeContrast: add"),
        ("not a number", "_rlnDefocusV is 'x' in row 1"),
        ("optics group", "Particle 12 .* optics group 2"),
        ("no names", "data_particles .* has no column _rlnImageName"),
        ("pixel size", r"pixel size is 0.25 Å in .* but 2.5 Å in the header of .*stack\.mrcs"),
        ("micrometres", "_rlnDefocusU is at most 1.8 in .* in Å, not in µm"),
        ("far origin", "origin of particle 12 of .* is 21 Å .* outside of the 40 Å box"),
        ("no factor", "_rlnCtfScalefactor is 0 for all particles"),
        ("two boxes", r"stack\.mrcs holds images of 16 pixels, .*b\.mrcs of 8: give each box an"),
        ("no rows", "holds no particles"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(particle_set, kind, message):
    spoil(particle_set, kind)
    with pytest.raises(InputError, match=message) as caught:
        read_particles(particle_set.write())
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


WORD = st.sampled_from(["", "1", "-3", "nan", "1e400", "x", "2@stack.mrcs", "0", "300", "é"])


@given(st.data())
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_table_is_read_or_refused(particle_set, data):
    """Values changed, columns dropped or renamed at random: an InputError or n particles, nothing else."""
    tables = {"optics": particle_set.optics.copy(), "particles": particle_set.particles.copy()}
    for _ in range(data.draw(st.integers(1, 3))):
        table = tables[data.draw(st.sampled_from(list(tables)))]
        label = data.draw(st.sampled_from(list(table)))
        change = data.draw(st.sampled_from(["drop", "rename", "value", "value"]))
        if change == "value":
            values = table[label].tolist()
            values[data.draw(st.integers(0, len(values) - 1))] = data.draw(WORD)
            table[label] = values
        elif change == "rename":
            table["rlnOther"] = table[label]
        elif len(table) > 1:
            del table[label]
    write_star(particle_set.star, tables)
    try:
        file = read_particles(particle_set.star)
    except InputError:
        return
    p = file.particles
    for tensor in (p.rotation, p.shift, p.defocus, p.phase_shift, p.scale):
        assert len(tensor) == N
        assert tensor.isfinite().all()
