"""Templates through the job: files, grids, symmetry, RELION's projections and its picker, refusals."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
import yaml

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs import create_templates
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.pages.write import PAGE
from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.models.gaussians import gaussian_density

BOX, PIXEL = 48, 4.0
RESULTS = {*create_templates.FILES, PAGE, "manifest.json"}


@pytest.fixture(scope="module")
def molecule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blobs within 60 Å, on the grey scale of a refinement's map."""
    draw = torch.Generator().manual_seed(8)
    position = torch.randn(120, 3, generator=draw) * 24
    position *= (60 / position.norm(dim=1, keepdim=True)).clamp(max=1)
    volume = gaussian_density(position, torch.ones(120), torch.full((120,), 5.0), BOX, PIXEL)
    path = tmp_path_factory.mktemp("molecule") / "molecule.mrc"
    write_volume(path, volume * (0.3 / float(volume.sum(0).std())), PIXEL)
    return path


def make(out: Path, volume: Path, **changes: Any) -> Path:
    settings = make_settings("create_templates", out=str(out), volume=str(volume), **changes)
    return create_templates.run(settings)


def stack(folder: Path) -> np.ndarray:
    with mrcfile.open(folder / "templates.mrcs") as file:
        return file.data.copy()


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, molecule: Path, drawn: Callable) -> Path:
    with drawn():
        return make(tmp_path_factory.mktemp("made") / "templates", molecule, n_templates=12)


def test_files(made: Path, molecule: Path) -> None:
    assert {p.name for p in made.iterdir()} == RESULTS
    assert mrcfile.validate(made / "templates.mrcs")
    with mrcfile.open(made / "templates.mrcs") as file:
        assert file.is_image_stack() and file.data.shape == (12, BOX, BOX)
        assert file.voxel_size.x == pytest.approx(PIXEL)
    told = summary(made)
    assert (told["templates"], told["box"], told["pixel_size"]) == (12, BOX, PIXEL)
    assert told["volume"] == str(molecule.resolve())
    assert told["warnings"] == []
    assert 1 < told["largest_gap_deg"] / told["ideal_gap_deg"] < 1.2
    assert told["grey_standard_deviation"] == pytest.approx(0.3, rel=0.3)
    assert yaml.safe_load((made / "config.yaml").read_text())["n_templates"] == 12
    assert "12 views, evenly spaced" in (made / "log.txt").read_text()
    assert (made / "templates.png").stat().st_size > 10_000
    assert list((made / "tensorboard").glob("events*"))


def test_the_star_file_is_a_list_of_references_and_of_particles_without_ctf(made: Path) -> None:
    blocks = read_star(made / "templates.star")
    assert list(blocks) == ["particles", "optics"]  # relion_autopick reads the first table
    images = blocks["particles"]
    assert next(iter(images)) == "rlnReferenceImage"
    assert images["rlnReferenceImage"][11] == images["rlnImageName"][11] == "000012@templates.mrcs"
    tilt = images.floats("rlnAngleTilt")
    assert (np.diff(tilt) >= 0).all() and not images.floats("rlnAnglePsi").any()
    angles = np.array(summary(made)["angles_deg"])
    assert np.allclose(angles[:, 0], images.floats("rlnAngleRot"), atol=1e-5)
    file = read_particles(made / "templates.star")
    particles, optics = file.particles, file.particles.optics
    assert (file.box, file.pixel_size, file.messages) == (BOX, PIXEL, [])
    ctf = contrast_transfer(
        torch.rand(50, 2) / 8,
        *(particles.defocus, particles.phase_shift),
        *(x.expand(12) for x in (optics.voltage_kv, optics.spherical_aberration)),
        optics.amplitude_contrast.expand(12),
    )
    assert torch.allclose(ctf, torch.ones(12, 50))


def test_images_are_projections_at_the_angles_of_the_file(made: Path, molecule: Path) -> None:
    poses = read_particles(made / "templates.star").particles.rotation
    volume, _ = read_volume(molecule)
    plain = unpack(project(volume, poses, torch.zeros(12, 2)), BOX).numpy()
    assert correlations(stack(made), plain).min() > 0.97  # but for the low-pass
    other = unpack(project(volume, poses.mT.contiguous(), torch.zeros(12, 2)), BOX).numpy()
    assert correlations(stack(made), other).mean() < 0.9


@pytest.mark.relion
@pytest.mark.parametrize("size", [{}, {"pixel_size": 6, "box_size": 40}])
def test_relion_projects_the_same_images(tmp_path: Path, molecule: Path, size: dict) -> None:
    """At the angles of the file; with another pixel size the map is brought to it first, by RELION."""
    out = make(tmp_path / "out", molecule, n_templates=8, low_pass=None, **size)
    pixel, box = size.get("pixel_size", PIXEL), size.get("box_size", BOX)
    grid = f"relion_image_handler --i {molecule} --o map.mrc --angpix {PIXEL} --rescale_angpix {pixel} --new_box {box}"
    command = f"relion_project --i map.mrc --ang templates.star --o relion --angpix {pixel} --pad 2"
    for line in (grid, command):
        subprocess.run(line.split(), cwd=out, check=True, capture_output=True, timeout=100)
    with mrcfile.open(out / "relion.mrcs", permissive=True) as file:
        other = file.data.copy()
    assert correlations(stack(out), other).min() > 0.999


@pytest.mark.relion
def test_relion_picks_particles_with_them(tmp_path: Path, molecule: Path) -> None:
    """Six dark particles in noise, each found within 16 Å, and nothing else, on the grey scale of the map."""
    draw = torch.Generator().manual_seed(9)
    volume, _ = read_volume(molecule)
    images = unpack(project(volume, random_rotations(6, draw), torch.zeros(6, 2)), BOX)
    micrograph = torch.randn(192, 256, generator=draw)
    places = [(x, y) for y in (48, 140) for x in (40, 120, 210)]
    for (x, y), image in zip(places, images, strict=True):
        micrograph[y - 24 : y + 24, x - 24 : x + 24] -= image
    _write(tmp_path, micrograph)
    make(tmp_path / "t", molecule, n_templates=10, pixel_size=6, box_size=32)
    for name in ("templates.star", "templates.mrcs"):
        (tmp_path / name).write_bytes((tmp_path / "t" / name).read_bytes())
    command = "relion_autopick --i micrographs.star --ref templates.star --odir picked/ --pickname autopick --invert --ang 15 --lowpass 20 --threshold 0.2 --min_distance 120 --particle_diameter 130"  # fmt: skip
    (tmp_path / "picked").mkdir()
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=100)
    (found,) = tmp_path.glob("picked/**/*autopick.star")
    table = read_star(found)[""]
    x, y = (table.floats(f"rlnCoordinate{axis}") for axis in "XY")
    distance = np.hypot(x[:, None] - np.array(places)[:, 0], y[:, None] - np.array(places)[:, 1])
    assert len(x) == 6
    assert sorted(distance.argmin(1)) == list(range(6))
    assert distance.min(1).max() < 4


def _write(folder: Path, micrograph: torch.Tensor) -> None:
    with mrcfile.new(folder / "micrograph.mrc") as file:
        file.set_data(micrograph.numpy())
        file.voxel_size = PIXEL
    (folder / "micrographs.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnVoltage\n_rlnSphericalAberration\n"
        f"_rlnAmplitudeContrast\n_rlnMicrographPixelSize\n1 one 300 2.7 0.1 {PIXEL}\n\n"
        "data_micrographs\n\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\nmicrograph.mrc 1\n\n"
    )


def test_symmetry_halves_the_gap_and_must_be_there(tmp_path: Path, molecule: Path) -> None:
    draw = torch.Generator().manual_seed(3)
    position = torch.randn(30, 3, generator=draw) * 25
    position = (point_group("D2").float() @ position.T).movedim(1, 2).reshape(-1, 3)
    volume = gaussian_density(position, torch.ones(120), torch.full((120,), 6.0), BOX, PIXEL)
    write_volume(tmp_path / "d2.mrc", volume, PIXEL)
    out = make(tmp_path / "d2", tmp_path / "d2.mrc", n_templates=20, symmetry="d2")
    plain = make(tmp_path / "c1", tmp_path / "d2.mrc", n_templates=20)
    assert len(stack(out)) == len(stack(plain)) == 20
    assert summary(out)["largest_gap_deg"] < 0.6 * summary(plain)["largest_gap_deg"]
    with pytest.raises(InputError, match=r"does not have symmetry=C3 .*use symmetry=C1"):
        make(tmp_path / "x", molecule, symmetry="C3")
    assert not (tmp_path / "x").exists()


def test_mask_contrast_and_sign(tmp_path: Path, molecule: Path, made: Path) -> None:
    given: dict[str, Any] = dict(n_templates=12, diameter=150, contrast=0.25, invert=True)
    out = make(tmp_path / "dark", molecule, **given)
    images, plain = stack(out), stack(made)
    r = np.hypot(*(np.indices((BOX, BOX)) - BOX // 2)) * PIXEL
    factor = -(images[:, r < 70] * plain[:, r < 70]).sum() / np.square(plain[:, r < 70]).sum()
    assert np.allclose(images[:, r < 70], -factor * plain[:, r < 70], atol=1e-5)
    assert not images[:, r > 90.1].any() and images[:, r < 89].any()
    assert images[:, r <= 75].std(axis=1).mean() == pytest.approx(0.25, rel=0.02)
    assert summary(out)["grey_standard_deviation"] == pytest.approx(0.25)


def test_results_are_replaced_only_when_asked(tmp_path: Path, molecule: Path) -> None:
    out = make(tmp_path / "out", molecule, n_templates=2)
    with pytest.raises(InputError, match=r"already holds .*overwrite=true"):
        make(out, molecule, n_templates=2)
    make(out, molecule, n_templates=3, overwrite=True)
    assert len(stack(out)) == 3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("volume", None, "name a map"),
        ("volume", "none.mrc", "does not exist"),
        ("n_templates", 0, "above zero"),
        ("n_templates", 1001, "from 1 to 1000"),
        ("symmetry", "X3", "symmetry=X3 cannot be used"),
        ("box_size", 31, "must be even, 32"),
        ("box_size", 8, "at least 16"),
        ("pixel_size", 0, "above zero"),
        ("low_pass", -5, "above zero"),
        ("low_pass", 3, "hold nothing finer than"),
        (
            "pixel_size",
            30,
            "low_pass=20 cannot be used: pixels of 30 Å hold nothing finer than 60 Å",
        ),
        ("diameter", 0, "above zero"),
        ("diameter", 500, "only 192 Å wide"),
        ("contrast", 0, "above zero"),
        ("out", None, "name a folder"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(
    tmp_path: Path, molecule: Path, name: str, value: Any, words: str
) -> None:
    given = {"volume": str(molecule), "out": str(tmp_path / "x"), name: value}
    with pytest.raises(InputError, match=words) as caught:
        create_templates.run(make_settings("create_templates", **given))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_maps_that_cannot_be_projected_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.mrc"
    write_volume(path, torch.zeros(16, 16, 16), PIXEL)
    with pytest.raises(InputError, match="is blank"):
        make(tmp_path / "x", path)
    write_volume(path, torch.rand(16, 16, 16), 0.0)
    with pytest.raises(InputError, match=r"does not state its pixel size: .*job=volume_tools"):
        make(tmp_path / "x", path)
