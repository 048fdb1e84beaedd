from __future__ import annotations

import gzip
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import new_particle_file, read_particles, write_particles
from cryotorch.data.star import Table, read_star, write_star
from cryotorch.errors import InputError
from cryotorch.ops.rotations import euler_to_matrix, random_rotations, rotation_angle
from cryotorch.particles import Optics, unposed

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
    assert len(file.messages) == 1
    assert "2.45 Å" in file.messages[0] and "2.5 Å in the header" in file.messages[0]
    for meaningless in (0, 1):
        write_stack(particle_set.stack, [particle_set.images], N, 16, meaningless)
        assert read_particles(particle_set.star).messages == []


def test_two_origins_and_aberrations(particle_set):
    particle_set.add_poses()
    particle_set.particles["rlnOriginX"] = np.full(N, 1000.0)
    particle_set.particles["rlnCtfBfactor"] = np.full(N, 50.0)
    particle_set.particles["rlnCtfScalefactor"] = np.ones(N)
    file = read_particles(particle_set.write())
    assert file.particles.shift.abs().max() < 10
    assert file.messages == [f"_rlnCtfBfactor of {particle_set.star} is kept but not applied."]


def spoil(particle_set, kind: str) -> None:
    table, optics = particle_set.particles, particle_set.optics
    if kind == "duplicate":
        table["rlnImageName"] = [*table["rlnImageName"][:-1], "3@./stack.mrcs"]
    elif kind == "beyond":
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
        table["rlnOriginYAngst"] = [*np.zeros(N - 1), -21.0]
    elif kind == "no rows":
        particle_set.particles = Table({label: [] for label in table})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("duplicate", "1 duplicate particles, the first being image 3 of .* in rows 3 and 12"),
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


@pytest.mark.data
def test_real_particle_files(shared_data, tmp_path):
    cases = {  # particles, box, pixel size, poses
        "relion_c1/particles.star": (2000, 64, 3.0, False),
        "relion_c1/truth/truth.star": (2000, 64, 3.0, True),
        "relion_points/relion_proj_batch_pfac2.star": (24, 64, 3.54, True),
        "real/trpv1_small_stack.star": (10, 48, 4.88, True),
        "real/empiar_10076_7.star": (7, 320, 50000 / 38168, False),
        "real/sample_particles_relion31.star": (17, 200, 1.4, True),
    }
    for name, (n, box, pixel_size, has_pose) in cases.items():
        file = read_particles(shared_data / name)
        p = file.particles
        assert (len(p), file.box, p.has_pose) == (n, box, has_pose), name
        assert file.pixel_size == pytest.approx(pixel_size), name
        assert file.messages == [], name
        write_particles(tmp_path / "again.star", file, p)
        again = read_particles(tmp_path / "again.star").particles
        assert rotation_angle(again.rotation, p.rotation).max() < 1e-6, name
        assert torch.allclose(again.shift, p.shift, atol=1e-5), name
        assert torch.equal(again.address, p.address), name
        assert torch.allclose(again.defocus, p.defocus), name
    sample = read_particles(shared_data / "real/sample_particles_relion31.star").particles
    assert sample.optics_group.unique().tolist() == [0, 1]
    assert sample.optics.voltage_kv.tolist() == [300, 200]
    assert sample.half.min() == 0
    trpv1 = read_particles(shared_data / "real/trpv1_small_stack.star").particles
    assert trpv1.half.tolist() == [1, 0] * 5
    assert trpv1.shift[0].tolist() == pytest.approx([-8.149219, -6.120969])


@pytest.mark.data
def test_real_files_that_are_refused_say_why(shared_data):
    cases = {
        "real/relion31.6opticsgroups.star": r"different pixel sizes \(1.24, 1.25 Å\)",
        "real/relion5.star": r"toy_images_a\.mrcs of .* does not exist",
        "real/rib80s_run003_model_trunc.star": "is no particle file",
        "real/starfile.star.gz": "stack_0500_cor_DW.mrcs of .* does not exist",
        "real/betaGal.mrc.gz": "not a text file",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            read_particles(shared_data / name)


@pytest.mark.data
def test_a_relion_30_refinement_without_its_images(shared_data, tmp_path):
    with gzip.open(shared_data / "real/starfile.star.gz") as packed:
        (tmp_path / "run_data.star").write_bytes(packed.read())
    file = read_particles(tmp_path / "run_data.star", need_images=False)
    p = file.particles
    assert (len(p), file.box, p.has_pose) == (3796, 0, True)
    assert file.pixel_size == pytest.approx(1.338, abs=1e-4)
    assert set(p.half.tolist()) == {0, 1}
    origin = read_star(tmp_path / "run_data.star")[""].floats("rlnOriginX")
    assert p.shift[:, 0].tolist() == pytest.approx((origin * file.pixel_size).tolist(), abs=1e-4)
    six = read_star(shared_data / "real/relion31.6opticsgroups.star")
    six["optics"]["rlnImagePixelSize"] = ["1.25"] * 6
    write_star(tmp_path / "six.star", six)
    file = read_particles(tmp_path / "six.star", need_images=False)
    assert file.box == 196
    assert len(file.particles.optics.voltage_kv) == 6
    assert "_rlnMagMat00" in file.messages[0] and "_rlnOddZernike" in file.messages[0]
