"""Simulated particles with a second body: images, poses of both, files for local refinement, refusals."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.errors import InputError
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.inputs.map_grid import Grid
from cryotorch.jobs.inputs.masks import load_mask
from cryotorch.jobs.pages.write import PAGES
from cryotorch.jobs.simulation import particles as simulation
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.geometry.placement import centre_of_mass
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.particles import Particles
from cryotorch.refinement.half_sets import draw_half_sets

BOX, PIXEL = 32, 5.0
HINGE = [17.0, 15.0, 20.0]
SMALL: dict[str, Any] = dict(box_size=BOX, pixel_size=PIXEL, n_particles=20, minibatch_size=8)
NAMES = sorted([*simulate.FILES, *simulate.BODY_FILES, *PAGES, "manifest.json"])


def make(out: Path, **changes: Any) -> Path:
    return simulate.run(make_settings("simulate", out=str(out), **{**SMALL, **changes}))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 particles of two phantoms without noise; the hinge is found."""
    out = tmp_path_factory.mktemp("phantoms") / "set"
    return make(out, second_body="phantom", snr=None, scale_sigma=0.2)


@pytest.fixture(scope="module")
def files(phantoms: Path) -> dict[str, str]:
    """The two phantoms as files: folding them takes longer than all the rest."""
    one, two = (str(phantoms / f"truth_body{i}.mrc") for i in (1, 2))
    return {"source": one, "second_body": two}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]) -> Path:
    """500 noisy particles."""
    out = tmp_path_factory.mktemp("many") / "set"
    return make(out, **files, hinge=HINGE, n_particles=500, seed=4)


def stack(folder: Path) -> np.ndarray:
    with mrcfile.open(folder / "particles.mrcs") as file:
        return file.data.astype(np.float32)


def volume(folder: Path, name: str) -> Tensor:
    return read_volume(folder / f"{name}.mrc")[0]


def particles(folder: Path, name: str) -> Particles:
    return read_particles(folder / f"{name}.star").particles


def projections(folder: Path, body: str, poses: str) -> np.ndarray:
    found = particles(folder, poses)
    rows = torch.arange(len(found))
    spectra = simulation.signal_spectra(projector(volume(folder, body)), found, rows)
    return unpack(spectra, BOX).numpy()


def test_the_files_are_there_and_readable(phantoms: Path) -> None:
    assert sorted(p.name for p in phantoms.iterdir()) == NAMES
    assert all(mrcfile.validate(path) for path in phantoms.glob("*.mrc*"))
    assert all(len(read_particles(path).particles) == 20 for path in phantoms.glob("*.star"))
    assert not particles(phantoms, "particles").has_pose


def test_an_image_is_the_sum_of_both_projections(phantoms: Path) -> None:
    """Noise-free; the bodies at rest in one pose fall short of it."""
    images = stack(phantoms)
    assert images.var(axis=(1, 2)).mean() == pytest.approx(1, rel=1e-3)
    one = projections(phantoms, "truth_body1", "truth")
    two = projections(phantoms, "truth_body2", "truth_body2")
    assert np.allclose(images, one + two, atol=2e-3)
    rigid = projections(phantoms, "truth", "truth")
    assert np.linalg.norm(images - rigid) > 0.1 * np.linalg.norm(images)
    assert np.allclose(rigid, one + projections(phantoms, "truth_body2", "truth"), atol=1e-3)


def test_truth_is_both_bodies_at_rest(phantoms: Path) -> None:
    one, two = (volume(phantoms, f"truth_body{i}") for i in (1, 2))
    assert torch.allclose(volume(phantoms, "truth"), one + two, atol=1e-6 * float(one.max()))
    assert float(two.sum() / one.sum()) == pytest.approx(0.6**3, rel=0.5)


def relative(folder: Path) -> tuple[Tensor, Tensor]:
    """From the STAR files: Q (n, 3, 3), and what the images show of t (n, 2), Å."""
    one, two = particles(folder, "truth"), particles(folder, "truth_body2")
    rotation, rotation2 = one.rotation.double(), two.rotation.double()
    turn = rotation.mT @ rotation2
    hinge = torch.tensor(yaml.safe_load((folder / "config.yaml").read_text())["hinge"])
    place = (hinge.double() - BOX // 2) * PIXEL
    carried = ((rotation - rotation2) @ place)[:, :2]
    return turn, one.shift - two.shift - carried


def test_motions_are_within_their_limits_and_uniform_in_the_ball(many: Path) -> None:
    turn, seen = relative(many)
    angle = rotation_angle(turn, torch.eye(3).double())
    share = (angle / math.radians(8)).sort().values ** 3
    assert 0.99 < float(share.max()) < 1.001
    # Kolmogorov and Smirnov: beyond 1.63 / sqrt(n) with a chance of 1 %
    rank = (torch.arange(500) + 0.5) / 500
    assert float((share - rank).abs().max()) < 1.63 / math.sqrt(500)
    # two components of a vector in a ball: variance r^2 / 5 each
    assert 2.8 < float(seen.norm(dim=1).max()) < 3.001
    assert seen.square().mean(0).tolist() == pytest.approx([9 / 5, 9 / 5], rel=0.15)


def test_the_hinge_stays_where_no_shift_moves_it(tmp_path: Path, files: dict[str, str]) -> None:
    out = make(tmp_path / "set", **files, hinge=HINGE, second_body_shift=0)
    turn, seen = relative(out)
    assert float(seen.norm(dim=1).max()) < 1e-3  # digits of the STAR file
    assert float(rotation_angle(turn, torch.eye(3).double()).min()) > math.radians(1)
    still = make(tmp_path / "still", **files, second_body_shift="0px", second_body_rotation=0)
    one, two = (particles(still, name) for name in ("truth", "truth_body2"))
    assert torch.allclose(one.rotation, two.rotation, atol=1e-6)
    assert torch.equal(one.shift, two.shift)


def test_the_hinge_found_is_between_the_bodies(phantoms: Path) -> None:
    hinge = torch.tensor(yaml.safe_load((phantoms / "config.yaml").read_text())["hinge"]).double()
    masks, (x, y, z) = [volume(phantoms, f"mask_body{i}") for i in (1, 2)], hinge.round().long()
    assert min(float(mask[z, y, x]) for mask in masks) > 0.5
    one, two = (centre_of_mass(mask) for mask in masks)
    along = (two - one) / (two - one).norm()
    assert 0.3 < float((hinge - one) @ along / (two - one).norm()) < 0.9


def test_masks_hold_their_body_and_are_soft(phantoms: Path) -> None:
    for this, other in ((1, 2), (2, 1)):
        mask, advice = load_mask(phantoms / f"mask_body{this}.mrc", Grid(BOX, PIXEL))
        assert not advice
        own, foreign = (volume(phantoms, f"truth_body{i}").square() for i in (this, other))
        assert float((own * mask).sum() / own.sum()) > 0.98
        assert float(foreign[mask > 0.99].sum() / foreign.sum()) < 0.02
        faces = [mask.select(axis, i) for axis in range(3) for i in (0, BOX - 1)]
        assert not torch.stack(faces).any()


def test_consensus_has_the_first_poses_and_half_sets(many: Path) -> None:
    start, truth = particles(many, "consensus"), particles(many, "truth")
    assert torch.equal(start.rotation, truth.rotation) and torch.equal(start.shift, truth.shift)
    assert torch.equal(start.half, draw_half_sets(500, 4))
    assert int(start.half.sum()) == 250
    assert (truth.half == -1).all()
    for found in (start, particles(many, "truth_body2")):
        assert torch.equal(found.defocus, truth.defocus)
        assert torch.equal(found.address, truth.address)


def test_the_hinge_is_told(tmp_path: Path, files: dict[str, str], capsys) -> None:
    make(tmp_path / "set", **files, hinge=HINGE, second_body_rotation="0.1rad")
    assert "turns by up to 5.72958 degrees about hinge=[17,15,20]" in capsys.readouterr().out


def test_snr_counts_both_bodies(many: Path) -> None:
    signal = projections(many, "truth_body1", "truth")
    signal += projections(many, "truth_body2", "truth_body2")
    assert signal.var(axis=(1, 2)).mean() == pytest.approx(0.1, rel=0.01)
    assert (stack(many) - signal).var() == pytest.approx(1, abs=0.01)


def test_same_seed_same_files(tmp_path: Path, files: dict[str, str]) -> None:
    one, two = (make(tmp_path / name, **files) for name in "12")
    for name in set(NAMES) - {"config.yaml", *PAGES}:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    other = make(tmp_path / "3", **files, seed=1)
    assert (other / "truth_body2.star").read_bytes() != (one / "truth_body2.star").read_bytes()
    # the first body's particles are those of a set without the second
    alone = make(tmp_path / "4", source=files["source"])
    assert (alone / "truth.star").read_bytes() == (one / "truth.star").read_bytes()


def test_two_maps_make_the_same_images(tmp_path: Path, phantoms: Path, files) -> None:
    out = make(tmp_path / "set", **files, snr=None, scale_sigma=0.2)
    assert np.allclose(stack(out), stack(phantoms), atol=5e-3)
    again = make(tmp_path / "set", **{**files, "second_body": None}, overwrite=True)
    assert sorted(p.name for p in again.iterdir()) == sorted(
        [*simulate.FILES, *PAGES, "manifest.json"]
    )


def test_without_a_second_body_nothing_is_new(tmp_path: Path, files: dict[str, str]) -> None:
    """Byte by byte: poses, then the noise image by image, nothing drawn between; one projection per image."""
    out = make(tmp_path / "set", source=files["source"])
    settings = make_settings("simulate", out="x", **{**SMALL, "source": files["source"]})
    draw = torch.Generator().manual_seed(0)
    poses = simulation.draw_particles(settings, draw)
    rest, _ = read_volume(files["source"])
    batches = torch.arange(20).split(8)

    def signals(volume: Tensor) -> list[Tensor]:
        reference = projector(volume)
        return [simulation.signal_spectra(reference, poses, rows) for rows in batches]

    power = sum(2 * float(s.abs().double().square().sum()) / BOX**2 for s in signals(rest)) / 20
    expected = [unpack(s, BOX) for s in signals(rest * math.sqrt(0.1 / power))]
    noise = [torch.randn(BOX, BOX, generator=draw) for _ in range(20)]
    assert np.array_equal(stack(out), (torch.cat(expected) + torch.stack(noise)).numpy())


def pdb(path: Path, points: list[tuple[float, float, float]]) -> str:
    line = "ATOM  {:5d}  CA  ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00 20.00           C\n"
    path.write_text("".join(line.format(i, i, *xyz) for i, xyz in enumerate(points, 1)) + "END\n")
    return str(path)


def test_two_models_keep_their_common_frame(tmp_path: Path) -> None:
    """The common centre of mass comes to the middle of the box, the way from one to the other stays."""
    heavy = [(100.0 + 8 * i, 50.0, 60.0) for i in range(3)]
    light = [(100.0, 50.0, 90.0)]
    a, b = pdb(tmp_path / "a.pdb", heavy), pdb(tmp_path / "b.pdb", light)
    models = {"source": a, "second_body": b}
    out = make(tmp_path / "set", **models, box_size=40, pixel_size=4, resolution=20, snr=None)
    maps = (volume(out, f"truth_body{i}").clamp(min=0) for i in (1, 2))
    one, two = ((centre_of_mass(m) - 20) * 4 for m in maps)
    assert torch.allclose(two - one, torch.tensor([-8.0, 0, 30]).double(), atol=0.5)
    assert torch.allclose(3 * one + two, torch.zeros(3).double(), atol=1)
    with pytest.raises(InputError, match=r"too small for .*b\.pdb, whose atoms reach"):
        make(tmp_path / "x", **models, box_size=8, pixel_size=4)


@pytest.mark.relion
def test_relion_project_makes_the_same_images(tmp_path: Path, files: dict[str, str]) -> None:
    out = make(tmp_path / "set", **files, snr=None)
    total = 0.0
    for body, poses in (("truth_body1", "truth"), ("truth_body2", "truth_body2")):
        command = (
            f"relion_project --i {body}.mrc --ang {poses}.star --o {body} --ctf --angpix 5 --pad 2"
        )
        subprocess.run(command.split(), cwd=out, check=True, capture_output=True, timeout=100)
        with mrcfile.open(out / f"{body}.mrcs", permissive=True) as file:
            total = total + file.data.astype(np.float64)
    pairs = zip(stack(out), total, strict=True)
    assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs) > 0.999


BAD = [
    ({"hinge": [1, 2, 32]}, r"hinge=\[1,2,32\] cannot be used: it must lie in the box"),
    ({"hinge": [-1, 2, 3]}, "from 0 to 31 voxels"),
    ({"hinge": [1, 2]}, "it has three numbers"),
    ({"hinge": "middle"}, "hinge must be a list of plain numbers such as"),
    ({"hinge": HINGE, "second_body": None}, "it needs a second_body"),
    ({"second_body_rotation": 91}, "second_body_rotation=91.*from 0 to 90 degrees"),
    ({"second_body_shift": -1}, "second_body_shift=-1.*must not be negative"),
    ({"second_body_shift": "-1px"}, "must not be negative"),
    ({"second_body_size": 2}, "from 0.3 to 1"),
    ({"second_body": ""}, "second_body is empty"),
    ({"second_body": "phantom"}, "second_body=phantom cannot be used with source=.*for both"),
    ({"second_body": "none.mrc"}, r"none\.mrc does not exist"),
    ({"second_body": "none.pdb"}, r"none\.pdb does not exist"),
    ({"second_body": "phantom"}, "give two maps, two atomic models, or phantom for both"),
    ({"symmetry": "C2"}, "cannot be used with symmetry=C2.*use symmetry=C1"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_bad_values_are_refused_in_a_sentence(
    tmp_path: Path, files: dict[str, str], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        make(tmp_path / "x", **{**files, **changes})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_blank_or_negative_body_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    blank, dark = str(tmp_path / "blank.mrc"), str(tmp_path / "dark.mrc")
    write_volume(blank, torch.zeros(BOX, BOX, BOX), PIXEL)
    bright, _ = read_volume(files["source"])
    write_volume(dark, -bright - 2 * bright.max(), PIXEL)
    with pytest.raises(InputError, match=r"second_body=.*blank\.mrc is blank"):
        make(tmp_path / "x", **{**files, "second_body": blank})
    with pytest.raises(InputError, match=r"second_body=.*dark\.mrc cannot be used.*inverted"):
        make(tmp_path / "x", **{**files, "second_body": dark})
    with pytest.raises(InputError, match=r"source=.*dark\.mrc cannot be used.*inverted"):
        make(tmp_path / "x", **{**files, "source": dark})


def test_an_input_is_not_overwritten(tmp_path: Path, phantoms: Path, files: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"truth_body1\.mrc is an input"):
        make(phantoms, **files, overwrite=True)


def test_a_body_is_absent_in_a_share_of_the_particles(
    tmp_path: Path, files: dict[str, str]
) -> None:
    """Noise-free: images are one map's or the other's, on one grey scale."""
    out = make(tmp_path / "set", **files, snr=None, second_body_states="absent")
    species = read_particles(out / "truth.star").tables["particles"]["cryotorchSpecies"].astype(int)
    assert sorted(species).count(2) == 8  # 0.4 of 20
    both, one = (projections(out, name, "truth") for name in ("truth", "truth_species2"))
    other = (species == 2)[:, None, None]
    assert np.allclose(stack(out), np.where(other, one, both), atol=2e-3)
    assert torch.equal(volume(out, "truth_species2"), volume(out, "truth_body1"))


def test_a_body_is_turned_the_same_way_in_a_share(tmp_path: Path, files: dict[str, str]) -> None:
    turned = dict(second_body_states="turned", second_body_rotation=40, second_body_share=0.5)
    out = make(tmp_path / "set", **files, hinge=HINGE, snr=None, n_particles=40, **turned)
    table = read_particles(out / "consensus.star").tables["particles"]
    other = torch.as_tensor(table["cryotorchSpecies"].astype(int)) == 2
    turn, _ = relative(out)
    angle = torch.rad2deg(rotation_angle(turn, torch.eye(3).double()))
    assert int(other.sum()) == 20
    assert angle[other].tolist() == pytest.approx([40.0] * 20, abs=0.1)
    assert float(angle[~other].max()) < 0.1
    assert torch.allclose(turn[other], turn[other][:1], atol=2e-3)
    # the map of the other state has these images
    found, images = projections(out, "truth_species2", "truth"), stack(out)
    apart = np.linalg.norm((images - found)[other.numpy()]) / np.linalg.norm(images[other.numpy()])
    assert apart < 0.2
    rigid = projections(out, "truth", "truth")
    assert np.allclose(images[~other.numpy()], rigid[~other.numpy()], atol=2e-3)
    moved = images[other.numpy()]
    assert np.linalg.norm(moved - rigid[other.numpy()]) > 0.3 * np.linalg.norm(moved)


def test_states_need_a_second_body() -> None:
    with pytest.raises(
        InputError, match="second_body_states=turned cannot be used: add second_body"
    ):
        make_settings("simulate", out="x", second_body_states="turned")
