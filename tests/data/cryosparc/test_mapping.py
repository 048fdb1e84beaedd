"""Facts in both languages: numbers that were worked out by hand or that other programs gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryotorch.data.cryosparc.fields import FIELDS
from cryotorch.data.cryosparc.file import read_cs
from cryotorch.data.cryosparc.mapping import columns_of, fields_of
from cryotorch.data.particle_file import read_particles
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.ops.geometry.rotations import euler_to_matrix

PATH = Path("particles.cs")


def fields(n: int = 3, **changes) -> dict[str, np.ndarray]:
    """n particles with a CTF; names of changes take two underscores for the slash."""
    found = {
        "uid": np.arange(n, dtype=np.uint64),
        "blob/path": np.array([b">J1/a.mrc"] * n),
        "blob/idx": np.arange(n, dtype=np.uint32),
        "blob/psize_A": np.full(n, 1.5, np.float32),
        "ctf/accel_kv": np.full(n, 300, np.float32),
        "ctf/cs_mm": np.full(n, 2.7, np.float32),
        "ctf/amp_contrast": np.full(n, 0.1, np.float32),
        "ctf/df1_A": np.linspace(9000, 12000, n, dtype=np.float32),
        "ctf/df2_A": np.linspace(8900, 11900, n, dtype=np.float32),
        "ctf/df_angle_rad": np.full(n, np.pi / 6, np.float32),
    }
    for name, values in changes.items():
        name = name.replace("__", "/")
        array = np.asarray(values)
        kind = FIELDS[name][0] if array.dtype.kind != "S" else array.dtype
        found[name] = array.astype(kind)
    return found


def tables(columns: dict, optics: dict) -> dict[str, Table]:
    return {"optics": Table(optics), "particles": Table(columns)}


def test_poses_are_rotation_vectors_of_the_transpose():
    """SciPy's intrinsic ZYZ angles of the vector are rot, tilt, psi (formats.md 3)."""
    pose = Rotation.random(50, rng=np.random.default_rng(0)).as_rotvec()
    columns, _, _, _ = columns_of(fields(50, alignments3D__pose=pose), PATH)
    angles = [np.deg2rad(columns[f"rlnAngle{x}"]) for x in ("Rot", "Tilt", "Psi")]
    theirs = Rotation.from_rotvec(pose).as_euler("ZYZ")
    again = Rotation.from_euler("ZYZ", np.stack(angles, 1))
    assert (again * Rotation.from_euler("ZYZ", theirs).inv()).magnitude().max() < 1e-6
    ours = euler_to_matrix(*(torch.from_numpy(x) for x in angles)).numpy()
    assert np.abs(ours - Rotation.from_rotvec(pose).inv().as_matrix()).max() < 1e-6


@pytest.mark.parametrize(
    "pose", [[0, 0, 0], [0, 0, 3], [np.pi, 0, 0], [0, np.pi, 0], [1e-8, 0, 0], [2.2, -2.2, 0.4]]
)
def test_poses_at_the_poles_come_back(pose):
    columns, optics, _, _ = columns_of(fields(1, alignments3D__pose=[pose]), PATH)
    made = fields_of(tables(columns, optics), PATH)["alignments3D/pose"]
    turn = Rotation.from_rotvec(made) * Rotation.from_rotvec([pose]).inv()
    assert turn.magnitude().max() < 5e-7


def test_shifts_are_in_pixels_of_their_own_size():
    given = fields(2, alignments3D__pose=np.eye(2, 3), alignments3D__shift=[[2, -1], [0, 0.5]])
    columns, _, _, messages = columns_of(given, PATH)
    assert columns["rlnOriginXAngst"].tolist() == [3, 0]  # 1.5 Å, the pixel of the images
    assert codes(messages) == ["shifts_in_pixels"]
    given |= {"alignments3D/psize_A": np.array([4, 4], np.float32)}
    columns, optics, _, _ = columns_of(given, PATH)
    assert columns["rlnOriginXAngst"].tolist() == [8, 0]
    assert columns["rlnOriginYAngst"].tolist() == [-4, 2]
    made = fields_of(tables(columns, optics), PATH)  # RELION knows the pixel of the images only
    assert made["alignments3D/psize_A"].tolist() == [1.5, 1.5]
    assert np.allclose(made["alignments3D/shift"], [[16 / 3, -8 / 3], [0, 4 / 3]])
    made = fields_of(tables(columns, optics), PATH, given)
    assert made["alignments3D/shift"].tolist() == [[2, -1], [0, 0.5]]


def test_ctf_angles_and_indices():
    given = fields(2, ctf__phase_shift_rad=[np.pi / 2, 0], blob__idx=[0, 41])
    given |= fields(2, alignments3D__pose=np.zeros((2, 3)), alignments3D__split=[0, 1])
    given |= {
        "ctf/phase_shift_rad": np.float32([np.pi / 2, 0]),
        "blob/idx": np.uint32([0, 41]),
        "alignments3D/class": np.uint32([2, 0]),
        "alignments3D/alpha": np.float32([0.5, 1.5]),
    }
    columns, optics, _, _ = columns_of(given, PATH)
    assert columns["rlnImageName"].tolist() == [b"000001@J1/a.mrc", b"000042@J1/a.mrc"]
    assert columns["rlnDefocusU"].dtype == np.float32
    assert columns["rlnDefocusAngle"].tolist() == [30.000001] * 2  # float32 of pi / 6
    assert columns["rlnPhaseShift"].tolist() == [90.000003, 0]  # float32 of pi / 2
    assert columns["rlnRandomSubset"].tolist() == [1, 2]
    assert columns["rlnClassNumber"].tolist() == [3, 1]
    assert columns["cryotorchScale"].tolist() == [0.5, 1.5]
    made = fields_of(tables(columns, optics), PATH)
    for name in ("ctf/df_angle_rad", "ctf/phase_shift_rad", "alignments3D/split", "blob/idx"):
        assert made[name].tobytes() == given[name].tobytes()
    assert made["blob/path"].tolist() == [b"J1/a.mrc"] * 2


def test_beam_tilt_is_a_length_in_cryosparc():
    """tilt_A = Cs sin(tilt): 2.7 mm and 1 mrad are 27,000 Å."""
    given = fields(2, ctf__tilt_A=[[27000, -13500]] * 2)
    _, optics, _, _ = columns_of(given, PATH)
    assert np.allclose(optics["rlnBeamTiltX"], 1, atol=1e-5)
    assert np.allclose(optics["rlnBeamTiltY"], -0.5, atol=1e-5)
    columns, optics, _, _ = columns_of(given, PATH)
    assert np.allclose(fields_of(tables(columns, optics), PATH)["ctf/tilt_A"], [[27000, -13500]])
    given["ctf/cs_mm"][:] = 0  # then no tilt can be told
    assert "rlnBeamTiltX" not in columns_of(given, PATH)[1]


def test_magnification_is_the_inverse_less_one():
    """Images labelled 0.6575 Å that have 0.8767 Å: 1 + anisomag = 1.333, RELION's M = 0.75."""
    given = fields(2, ctf__anisomag=[[1 / 3, 0, 0, 1 / 3]] * 2)
    columns, optics, _, messages = columns_of(given, PATH)
    assert np.allclose([optics["rlnMagMat00"], optics["rlnMagMat11"]], 0.75)
    assert codes(messages) == ["magnification_read"]
    given = fields(2, ctf__anisomag=[[0.01, 0.02, 0.03, -0.01]] * 2)
    columns, optics, _, _ = columns_of(given, PATH)
    m = np.array([optics[f"rlnMagMat{x}"][0] for x in ("00", "01", "10", "11")]).reshape(2, 2)
    assert np.allclose(m @ [[1.01, 0.02], [0.03, 0.99]], np.eye(2), atol=2e-6)
    made = fields_of(tables(columns, optics), PATH)["ctf/anisomag"]
    assert np.allclose(made, given["ctf/anisomag"], atol=2e-6)


def test_other_aberrations_are_named_not_converted():
    given = fields(2, ctf__trefoil_A=[[1, 0], [0, 0]], ctf__tetra_A=np.zeros((2, 4)))
    _, optics, _, messages = columns_of(given, PATH)
    assert not [x for x in optics if "Zernike" in x]
    assert codes(messages) == ["field_not_applied"] and messages[0]["field"] == "ctf/trefoil_A"


def test_positions_have_their_origin_above():
    """formats.md 7: x = fraction of the width, y counts from below."""
    shape = [[4000, 5000]] * 2  # rows, columns
    given = fields(
        2,
        location__micrograph_path=np.array([b">J2/m.mrc"] * 2),
        location__micrograph_shape=shape,
        location__center_x_frac=[0.1, 0.5],
        location__center_y_frac=[0.25, 0.99],
    )
    columns, optics, _, _ = columns_of(given, PATH)
    assert columns["rlnMicrographName"].tolist() == [b"J2/m.mrc"] * 2
    assert columns["rlnCoordinateX"].tolist() == [500, 2500]
    assert columns["rlnCoordinateY"].tolist() == [3000, 40]
    made = fields_of(tables(columns, optics), PATH)
    assert not [name for name in made if name.startswith("location")]  # of unknown size
    made = fields_of(tables(columns, optics), PATH, given)
    assert np.allclose(made["location/center_y_frac"], [0.25, 0.99])


def test_exposure_groups_are_numbered_densely_in_their_order():
    given = fields(6, ctf__exp_group_id=[7, 3, 7, 3, 9, 3], ctf__accel_kv=[300] * 6)
    given["ctf/cs_mm"][5] = 2.0  # another lens within a group
    columns, optics, row, _ = columns_of(given, PATH)
    assert row.tolist() == [2, 1, 2, 1, 3, 0]
    assert columns["rlnOpticsGroup"].tolist() == [3, 2, 3, 2, 4, 1]
    assert np.allclose(optics["rlnSphericalAberration"], [2.0, 2.7, 2.7, 2.7])
    assert fields_of(tables(columns, optics), PATH)["ctf/exp_group_id"].tolist() == row.tolist()


def test_uids_are_unique_and_reproducible():
    def uids(names):
        n = len(names)
        columns = {f"rlnDefocus{x}": np.ones(n) for x in ("U", "V", "Angle")}
        columns |= {"rlnImageName": names, "rlnOpticsGroup": np.ones(n, int)}
        _, optics, _, _ = columns_of(fields(1), PATH)
        return fields_of(tables(columns, optics), PATH)["uid"]

    names = [f"{i}@{s}.mrc" for s in "abc" for i in range(1, 5000)]
    assert len(np.unique(uids(names))) == len(names)
    assert uids(names)[::-1].tolist() == uids(names[::-1]).tolist()  # whatever the rows around
    assert uids(["000007@a.mrc"]) == uids(["7@a.mrc"])
    # an image may occur twice, as after symmetry expansion
    assert len(np.unique(uids(["1@a.mrc"] * 5 + ["2@a.mrc"]))) == 6


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"blob/path": np.arange(2)}, "blob/path .* not 1 text"),
        ({"blob/path": np.array([b"a\nb", b"c"])}, "control characters"),
        ({"ctf/df1_A": np.array([b"1", b"2"])}, "ctf/df1_A .* not 1 number"),
        ({"alignments3D/pose": np.zeros((2, 2))}, "alignments3D/pose .* not 3 number"),
        ({"ctf/anisomag": np.array([[-1.0, 0, 0, -1]] * 2)}, "not a magnification"),
    ],
)
def test_fields_of_another_kind_are_refused(changes, says):
    with pytest.raises(InputError, match=says):
        columns_of({**fields(2), **changes}, PATH)


@pytest.mark.data
def test_relion_and_cryosparc_agree_on_the_same_particles(shared_data):
    """EMPIAR-10076 as both programs hold it."""
    star = read_particles(shared_data / "real/empiar_10076_7.star", need_images=False)
    theirs = read_cs(shared_data / "real/empiar_10076_7.cs")
    columns, optics, _, _ = columns_of(theirs, PATH)
    table = star.tables["particles"]
    for label in ("rlnDefocusU", "rlnDefocusV"):
        assert np.abs(columns[label] - table.floats(label)).max() < 1e-3
    assert np.abs(columns["rlnDefocusAngle"] - 5.28).max() < 1e-6
    assert abs(optics["rlnImagePixelSize"][0] - star.pixel_size) < 1e-5
    names = table.raw("rlnImageName").tolist()
    assert [name.lstrip(b"0") for name in columns["rlnImageName"].tolist()] == names
    made = fields_of(star.tables, PATH)
    for name in ("ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad", "blob/idx", "blob/path"):
        assert np.array_equal(made[name], theirs[name]), name
