"""Real particle files, held against what other readers see: gemmi for STAR files, NumPy for .cs files."""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile, read_particles, write_particles
from cryotorch.errors import InputError
from cryotorch.ops.geometry.rotations import euler_to_matrix, rotation_angle

pytestmark = pytest.mark.data


def theirs(path: Path, label: str, block: int = -1) -> list[str]:
    """A column of the last block that has it."""
    found = [values for b in gemmi.cif.read(str(path)) if len(values := b.find_values(f"_{label}"))]
    return [value.strip('"') for value in found[block]]


def numbers(path: Path, label: str) -> np.ndarray:
    return np.array([float(value) for value in theirs(path, label)])


def agree(file: ParticleFile, path: Path) -> None:
    """Defocus, poses, half sets and addresses as gemmi reads them."""
    p = file.particles
    for i, label in enumerate(("rlnDefocusU", "rlnDefocusV")):
        assert np.abs(p.defocus[:, i].numpy() - numbers(path, label)).max() < 1e-3
    angle = np.rad2deg(p.defocus[:, 2].double().numpy())
    np.testing.assert_allclose(angle, numbers(path, "rlnDefocusAngle"), atol=1e-5)
    names = theirs(path, "rlnImageName")
    assert [int(name.split("@")[0]) - 1 for name in names] == p.address[:, 1].tolist()
    stacks = [file.stacks[i].name for i in p.address[:, 0]]
    assert stacks == [Path(name.split("@")[1]).name for name in names]
    if p.has_pose:
        angles = [np.deg2rad(numbers(path, f"rlnAngle{x}")) for x in ("Rot", "Tilt", "Psi")]
        expected = euler_to_matrix(*(torch.from_numpy(x) for x in angles))
        assert rotation_angle(p.rotation, expected.float()).max() < 1e-5


CASES = {  # particles, box, pixel size, poses
    "relion_c1/particles.star": (2000, 64, 3.0, False),
    "relion_c1/truth/truth.star": (2000, 64, 3.0, True),
    "relion_beamtilt/particles.star": (400, 128, 1.5, False),
    "relion_points/relion_proj_batch_pfac2.star": (24, 64, 3.54, True),
    "real/trpv1_small_stack.star": (10, 48, 4.88, True),
    "real/empiar_10076_7.star": (7, 320, 50000 / 38168, False),
    "real/sample_particles_relion31.star": (17, 200, 1.4, True),
}


@pytest.mark.parametrize("name", CASES)
def test_files_with_their_images(shared_data, tmp_path, name):
    file = read_particles(shared_data / name)
    n, box, pixel_size, has_pose = CASES[name]
    p = file.particles
    assert (len(p), file.box, p.has_pose) == (n, box, has_pose)
    assert file.pixel_size == pytest.approx(pixel_size)
    mtf = [m for m in file.messages if m.values.get("mtf") == "mtf_k2_200kV.star"]
    assert file.messages == mtf  # a file that does not come with the sample
    assert bool(mtf) == ("sample" in name)
    agree(file, shared_data / name)
    write_particles(tmp_path / "again.star", file, p)
    again = read_particles(tmp_path / "again.star").particles
    assert rotation_angle(again.rotation, p.rotation).max() < 1e-6
    assert torch.allclose(again.shift, p.shift, atol=1e-5)
    assert torch.equal(again.address, p.address)
    assert torch.equal(again.defocus, p.defocus)


def test_values_that_are_known(shared_data):
    def particles(name: str):
        return read_particles(shared_data / name).particles

    sample = particles("real/sample_particles_relion31.star")
    assert sample.optics_group.unique().tolist() == [0, 1]
    assert sample.optics.voltage_kv.tolist() == [300, 200]
    assert sample.half.min() == 0
    trpv1 = particles("real/trpv1_small_stack.star")
    assert trpv1.half.tolist() == [1, 0] * 5
    assert trpv1.shift[0].tolist() == pytest.approx([-8.149219, -6.120969])
    tilted = particles("relion_beamtilt/particles.star").optics
    assert tilted.beam_tilt.tolist() == [pytest.approx([1.0, -0.6])]


def test_six_optics_groups_with_zernike_tables(shared_data, tmp_path):
    path = shared_data / "real/relion31.6opticsgroups.star"
    file = read_particles(path, need_images=False)
    p, optics = file.particles, file.particles.optics
    assert (len(p), len(optics), file.box, file.pixel_size) == (139, 6, 196, 1.25)
    assert file.messages == []
    agree(file, path)
    number = np.array([int(x) for x in theirs(path, "rlnOpticsGroup")])
    assert (p.optics_group.numpy() == number - 1).all()  # defined in order
    assert p.half.tolist() == (numbers(path, "rlnRandomSubset") - 1).tolist()

    def vectors(label: str) -> np.ndarray:
        return np.array([[float(x) for x in t[1:-1].split(",")] for t in theirs(path, label)])

    tilt = np.stack([numbers(path, f"rlnBeamTilt{x}") for x in "XY"], 1)
    matrix = np.stack([numbers(path, f"rlnMagMat{x}") for x in ("00", "01", "10", "11")], 1)
    np.testing.assert_allclose(optics.beam_tilt, tilt, rtol=1e-6)
    np.testing.assert_allclose(optics.magnification.flatten(1), matrix, rtol=1e-6)
    np.testing.assert_allclose(optics.odd_zernike, vectors("rlnOddZernike"), rtol=1e-6)
    np.testing.assert_allclose(optics.even_zernike, vectors("rlnEvenZernike"), rtol=1e-6)
    assert optics.odd_zernike[0].tolist() == pytest.approx(
        [1.70554063513, 1.2131261042, 2.54522458134, 0, 0, 3.56183614819]
    )
    assert optics.even_zernike.shape == (6, 9)
    assert optics.pixel_size.tolist() == pytest.approx([1.25, 1.24, 1.25, 1.25, 1.24, 1.25])
    assert optics.premultiplied is None and optics.mtf is None
    write_particles(tmp_path / "again.star", file, p)
    for label in ("rlnOddZernike", "rlnEvenZernike", "rlnMagMat01", "rlnBeamTiltX"):
        assert theirs(tmp_path / "again.star", label) == theirs(path, label)


def test_relion_5(shared_data):
    path = shared_data / "real/relion5.star"
    file = read_particles(path, need_images=False)
    p = file.particles
    assert (len(p), file.box, file.pixel_size, len(file.messages)) == (17, 448, 0.89, 1)
    assert (file.messages[0]["rows"], file.messages[0]["images"]) == (17, 15)
    assert [stack.name for stack in file.stacks] == ["toy_images_a.mrcs", "toy_images_b.mrcs"]
    agree(file, path)
    assert p.optics.beam_tilt.tolist() == [pytest.approx([0.043489, 0.014097])]
    assert p.optics.even_zernike[0, 2].item() == pytest.approx(67.4975218205)
    assert p.optics.voltage_kv.tolist() == [100]
    assert p.bfactor is None and p.ctf_scale is None  # 0 and 1 in all rows


def test_a_relion_30_refinement_without_its_images(shared_data, tmp_path):
    path = tmp_path / "run_data.star"
    with gzip.open(shared_data / "real/starfile.star.gz") as packed:
        path.write_bytes(packed.read())
    file = read_particles(path, need_images=False)
    p = file.particles
    assert (len(p), file.box, p.has_pose) == (3796, 0, True)
    assert file.pixel_size == pytest.approx(1.338, abs=1e-4)
    assert set(p.half.tolist()) == {0, 1}
    agree(file, path)
    for i, label in enumerate(("rlnOriginX", "rlnOriginY")):
        expected = numbers(path, label) * file.pixel_size
        np.testing.assert_allclose(p.shift[:, i], expected, atol=1e-4)


def test_star_and_cs_of_the_same_particles_agree(shared_data):
    star, cs = (read_particles(shared_data / f"real/empiar_10076_7.{x}") for x in ("star", "cs"))
    fields = np.load(shared_data / "real/empiar_10076_7.cs", allow_pickle=False)
    for file in (star, cs):
        p = file.particles
        for i, name in enumerate(("df1_A", "df2_A")):
            assert np.abs(p.defocus[:, i].numpy() - fields[f"ctf/{name}"]).max() < 1e-3
        assert p.defocus[:, 2].tolist() == pytest.approx([0.09215] * 7, abs=1e-5)
        assert p.optics.voltage_kv.tolist() == [300]
        assert p.optics.amplitude_contrast.tolist() == pytest.approx([0.07])
        assert file.pixel_size == pytest.approx(50000 / 38168, abs=1e-5)
        assert (file.box, p.address[:, 1].tolist()) == (320, list(range(7)))
        assert (file.stacks[0].name, p.has_pose) == ("empiar_10076_7.mrc", False)
    assert torch.allclose(star.particles.defocus, cs.particles.defocus, atol=1e-3)
    # the .cs file says that protein is dark
    assert (star.sign, cs.sign.tolist()) == (None, [-1] * 7)
    rows = list(range(7))
    dark, bright = (ParticleImages(file, 64)[rows] for file in (star, cs))
    assert torch.allclose(bright, -dark, atol=1e-5 * float(dark.abs().max()))


def test_a_cryosparc_refinement(shared_data):
    path = shared_data / "real/cryosparc_P12_J24_001_particles.cs"
    file = read_particles(path, need_images=False)
    fields = np.load(path, allow_pickle=False, max_header_size=10**6)
    p = file.particles
    assert (len(p), file.box, p.has_pose) == (2019, 180, True)
    assert file.pixel_size == pytest.approx(2.95, abs=1e-3)
    # Rodrigues(pose) takes image axes to volume axes
    expected = Rotation.from_rotvec(fields["alignments3D/pose"]).as_matrix().transpose(0, 2, 1)
    assert rotation_angle(p.rotation, torch.from_numpy(expected).float()).max() < 1e-5
    shift = fields["alignments3D/shift"] * fields["alignments3D/psize_A"][:, None]
    np.testing.assert_allclose(p.shift, shift, atol=1e-4)
    assert (p.half.numpy() == fields["alignments3D/split"]).all()
    assert torch.bincount(p.half).tolist() == [1010, 1009]
    for i, name in enumerate(("df1_A", "df2_A")):
        assert np.abs(p.defocus[:, i].numpy() - fields[f"ctf/{name}"]).max() < 1e-3
    assert (p.address[:, 1].numpy() == fields["blob/idx"]).all()
    assert p.optics.voltage_kv.unique().tolist() == [200]
    assert p.optics.spherical_aberration.unique().tolist() == [2]


def test_files_that_are_refused_say_why(shared_data):
    cases = {
        "relion31.6opticsgroups.star": r"0003_shiny\.mrcs of .* does not exist",
        "relion5.star": r"toy_images_a\.mrcs of .* does not exist",
        "rib80s_run003_model_trunc.star": "is no particle file",
        "starfile.star.gz": "stack_0500_cor_DW.mrcs of .* does not exist",
        "betaGal.mrc.gz": "not a text file",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            read_particles(shared_data / "real" / name)
