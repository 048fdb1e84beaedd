"""Aberrations in simulated sets: in the images by closed form and by RELION, in the files as asked for."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
from torch import Tensor

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.simulation import particles
from cryotorch.ops.ctf.transfer import contrast_transfer, wavelength
from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack
from cryotorch.ops.models.gaussians import gaussian_density
from cryotorch.ops.resolution.fsc import shell_correlation

BOX, PIXEL, SIGMA = 48, 2.0, 2.5
SMALL: dict[str, Any] = dict(
    box_size=BOX, pixel_size=PIXEL, n_particles=12, snr=None, shift_sigma=3
)
STRETCH = [[1.06, 0.02], [-0.01, 0.95]]
EVERYTHING: dict[str, Any] = dict(
    beam_tilt=[4, -3],
    odd_zernike=[0, 0, 200, 0, 0, -150],
    even_zernike=[0, 0, 0, 0, 600, -300, 0, 0, 400],
    magnification=STRETCH,
    phase_shift=30,
)
COLUMNS = ["rlnBeamTiltX", "rlnBeamTiltY", "rlnOddZernike", "rlnEvenZernike"]
COLUMNS += [f"rlnMagMat{place}" for place in ("00", "01", "10", "11")]
FREQUENCY = half_plane(BOX).frequency.double() / (BOX * PIXEL)


@pytest.fixture(scope="module", autouse=True)
def molecule(tmp_path_factory: pytest.TempPathFactory) -> None:
    draw = torch.Generator().manual_seed(1)
    position = torch.randn(40, 3, generator=draw) * 11
    density = gaussian_density(position, torch.ones(40), torch.full((40,), SIGMA), BOX, PIXEL)
    path = tmp_path_factory.mktemp("molecule") / "blobs.mrc"
    write_volume(path, density, PIXEL)
    SMALL["source"] = str(path)


def make(out: Path, **changes: Any) -> Path:
    return simulate.run(make_settings("simulate", out=str(out), **{**SMALL, **changes}))


def stack(folder: Path, name: str = "particles.mrcs") -> np.ndarray:
    with mrcfile.open(folder / name, permissive=True) as file:
        return file.data.copy()


def spectra(folder: Path) -> Tensor:
    return pack(torch.from_numpy(stack(folder)).double())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, molecule: None) -> Path:
    return make(tmp_path_factory.mktemp("plain") / "set")


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory, molecule: None) -> Path:
    out = tmp_path_factory.mktemp("hidden") / "set"
    return make(out, known_aberrations=False, defocus_error=300, n_particles=100, **EVERYTHING)


def test_without_aberrations_the_ctf_alone_makes_the_images(plain: Path) -> None:
    """To the last bit: what was simulated before there were aberrations."""
    settings = make_settings("simulate", out=str(plain), **SMALL)
    p = particles.draw_particles(settings, torch.Generator().manual_seed(settings.seed))
    volume, _ = read_volume(plain / "truth.mrc")
    lens = (p.optics.voltage_kv, p.optics.spherical_aberration, p.optics.amplitude_contrast)
    k = half_plane(BOX).frequency / (BOX * PIXEL)
    ctf = contrast_transfer(k, p.defocus, p.phase_shift, *(x.expand(12) for x in lens))
    images = unpack(predict(projector(volume), p.rotation, p.shift / PIXEL, ctf, p.scale), BOX)
    assert np.array_equal(stack(plain), images.numpy())


def test_what_is_zero_changes_no_byte(plain: Path, tmp_path: Path) -> None:
    out = make(tmp_path / "out", known_aberrations=False, defocus_error=0, phase_shift=0)
    for name in set(simulate.FILES) - {"config.yaml"}:
        assert (out / name).read_bytes() == (plain / name).read_bytes(), name


def test_beam_tilt_undone_leaves_the_images_without(plain: Path, tmp_path: Path) -> None:
    """phi = -2 pi Cs lambda^2 k^2 (k . tilt), written out here."""
    tilted = make(tmp_path / "tilt", beam_tilt=[4, -3])
    tilt = torch.tensor([4e-3, -3e-3], dtype=torch.float64)
    squared = wavelength(torch.tensor(300.0, dtype=torch.float64)) ** 2
    phase = -2 * math.pi * 2.7e7 * squared * FREQUENCY.square().sum(1) * (FREQUENCY @ tilt)
    assert float(phase.abs().max()) > 1
    undone, expected = spectra(tilted) * torch.exp(-1j * phase), spectra(plain)
    assert float((undone - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert float((spectra(tilted) - expected).abs().max()) > 0.1 * float(expected.abs().max())


def test_trefoil_undone_leaves_the_images_without(plain: Path, tmp_path: Path) -> None:
    """The third odd term is k^3 sin 3 phi; shorter lists are filled up with zeros."""
    out = make(tmp_path / "trefoil", odd_zernike=[0, 0, 150])
    kx, ky = FREQUENCY.unbind(1)
    phase = 150 * (3 * kx**2 * ky - ky**3)
    undone, expected = spectra(out) * torch.exp(-1j * phase), spectra(plain)
    assert float((undone - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    odd = read_particles(out / "truth.star").particles.optics.odd_zernike
    assert odd.tolist() == [[0, 0, 150, 0, 0, 0]]


def test_an_even_term_of_second_order_is_astigmatism(tmp_path: Path) -> None:
    """c k^2 cos 2 phi is taken from chi, where pi lambda (U - V)/2 k^2 cos 2 phi stands."""
    stretched = 900.0  # U - V, Å
    none: dict[str, Any] = dict(astigmatism=0, shift_sigma=0)
    lam = float(wavelength(torch.tensor(300.0)))
    even = [0, 0, 0, -math.pi * lam * stretched / 2]
    aberrated, round_ones = make(tmp_path / "even", even_zernike=even, **none), make(tmp_path / "round", **none)  # fmt: skip
    truth, (volume, _) = read_particles(round_ones / "truth.star").particles, read_volume(aberrated / "truth.mrc")  # fmt: skip
    half = torch.tensor([stretched / 2, -stretched / 2, 0.0])
    oval = truth.replace(defocus=truth.defocus * torch.tensor([1, 1, 0]) + half)
    expected = unpack(particles.signal_spectra(projector(volume), oval, torch.arange(12)), BOX)
    assert np.allclose(stack(aberrated), expected.numpy(), atol=2e-3)
    assert not np.allclose(stack(aberrated), stack(round_ones), atol=0.1)


def test_magnification_stretches_a_gaussian(tmp_path: Path) -> None:
    """exp(-2 pi^2 s^2 |M k|^2) times the CTF at M k, centred: the image's frequency k is M k in the molecule."""
    one = gaussian_density(torch.zeros(1, 3), torch.ones(1), torch.full((1,), 4.0), BOX, PIXEL)
    write_volume(tmp_path / "one.mrc", one, PIXEL)
    given = dict(source=str(tmp_path / "one.mrc"), shift_sigma=0, magnification=STRETCH)
    out = make(tmp_path / "out", **given)
    there = FREQUENCY @ torch.tensor(STRETCH, dtype=torch.float64).T
    truth = read_particles(out / "truth.star").particles
    lens = (truth.optics.voltage_kv, truth.optics.spherical_aberration, truth.optics.amplitude_contrast)  # fmt: skip
    ctf = contrast_transfer(there, truth.defocus, truth.phase_shift, *(x.expand(12) for x in lens))
    expected = ctf * torch.exp(-2 * math.pi**2 * 16 * there.square().sum(1))
    found = spectra(out)
    factor = (found.real * expected).sum() / expected.square().sum()
    assert float((found - factor * expected).abs().max()) < 0.01 * float(found.abs().max())


@pytest.mark.relion
def test_relion_project_applies_the_same_symmetric_aberrations(tmp_path: Path) -> None:
    """relion_project 3.1.3 knows even terms and phase shifts; odd terms and magnification it leaves out of the slice."""
    even = [0, 0, 0, 40, 600, -300, 300, 200, 400]
    out = make(tmp_path / "set", even_zernike=even, phase_shift=70, astigmatism=1000)
    command = "relion_project --i truth.mrc --ang truth.star --o relion --ctf --angpix 2 --pad 2"
    subprocess.run(command.split(), cwd=out, check=True, capture_output=True, timeout=100)
    pairs = zip(stack(out), stack(out, "relion.mrcs"), strict=True)
    assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs) > 0.9995


@pytest.mark.relion
def test_relion_reconstruct_undoes_everything(tmp_path: Path) -> None:
    """From truth.star it finds the molecule again; without the aberrations it does not."""
    out = make(tmp_path / "set", n_particles=300, **EVERYTHING)
    tables = read_star(out / "truth.star")
    for label in COLUMNS:
        del tables["optics"][label]
    write_star(out / "ignorant.star", tables)
    truth, _ = read_volume(out / "truth.mrc")
    curves = {}
    for name in ("truth", "ignorant"):
        command = f"relion_reconstruct --i {name}.star --o {name}_map.mrc --ctf --pad 2"
        subprocess.run(command.split(), cwd=out, check=True, capture_output=True, timeout=100)
        curves[name] = shell_correlation(read_volume(out / f"{name}_map.mrc")[0], truth)
    assert float(curves["truth"][1:21].min()) > 0.99
    assert float(curves["ignorant"][8:21].max()) < 0.8


def test_the_truth_tells_what_particles_star_does_not(hidden: Path) -> None:
    truth, told = (read_star(hidden / f"{name}.star") for name in ("truth", "particles"))
    assert not set(COLUMNS) & set(told["optics"])
    optics = truth["optics"]
    assert [optics.floats(f"rlnBeamTilt{axis}")[0] for axis in "XY"] == [4, -3]
    assert optics.vectors("rlnOddZernike").tolist() == [EVERYTHING["odd_zernike"]]
    assert optics.vectors("rlnEvenZernike").tolist() == [EVERYTHING["even_zernike"]]
    matrix = [optics.floats(label)[0] for label in COLUMNS[4:]]
    assert matrix == pytest.approx(np.ravel(STRETCH))
    for table in (truth, told):  # of the plate, not an aberration
        assert table["particles"].floats("rlnPhaseShift") == pytest.approx(np.full(100, 30))


def test_known_aberrations_stand_in_both_files(tmp_path: Path) -> None:
    out = make(tmp_path / "known", n_particles=2, **EVERYTHING)
    truth, told = (read_particles(out / f"{name}.star") for name in ("truth", "particles"))
    for name in ("beam_tilt", "odd_zernike", "even_zernike", "magnification"):
        assert torch.equal(*(getattr(f.particles.optics, name) for f in (truth, told)))
    assert told.messages == [] and not told.particles.has_pose


def test_defocus_errors_are_in_particles_star_only(hidden: Path, tmp_path: Path) -> None:
    told, truth = (read_particles(hidden / f"{x}.star").particles for x in ("particles", "truth"))
    error = told.defocus - truth.defocus
    assert torch.allclose(error[:, 0], error[:, 1], atol=0.01) and not error[:, 2].any()
    assert 240 < float(error[:, 0].std()) < 360 and abs(float(error[:, 0].mean())) < 100
    exact = make(tmp_path / "exact", n_particles=100, known_aberrations=False, **EVERYTHING)
    assert (exact / "particles.mrcs").read_bytes() == (hidden / "particles.mrcs").read_bytes()
    assert (exact / "truth.star").read_bytes() == (hidden / "truth.star").read_bytes()


def test_the_start_of_a_local_refinement_knows_no_more_than_the_particles(tmp_path: Path) -> None:
    given = {"second_body": "phantom", "source": "phantom", "n_particles": 4, "box_size": 40}
    out = make(
        tmp_path / "two", **given, beam_tilt=[1, 1], known_aberrations=False, defocus_error=300
    )
    files = ("consensus", "particles", "truth", "truth_body2")
    start, told, truth, second = (read_particles(out / f"{name}.star").particles for name in files)
    assert start.optics.beam_tilt is None and torch.equal(start.defocus, told.defocus)
    assert truth.optics.beam_tilt.tolist() == second.optics.beam_tilt.tolist() == [[1, 1]]
    assert torch.equal(second.defocus, truth.defocus)
    assert not torch.equal(told.defocus, truth.defocus)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("beam_tilt", [1.0], r"write it as \[x,y\], in mrad"),
        ("odd_zernike", [0.0] * 7, "give 1 to 6 coefficients"),
        ("even_zernike", [], "give 1 to 9 coefficients"),
        ("magnification", [[1.0, 0.0]], r"write it as \[\[xx,xy\],\[yx,yy\]\]"),
        ("magnification", [[1.0, 0.0], [0.0, -1.0]], "within 0.2 of those of"),
        ("defocus_error", -1, "must not be negative"),
        ("phase_shift", "much", "write an angle"),
        ("known_aberrations", "some", "true or false"),
        ("resolution", 1e5, "at most half of that"),
        ("box_size", 10**6, "need at least"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(
    tmp_path: Path, name: str, value: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        make(tmp_path / "x", **{name: value})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_beam_tilt_needs_a_spherical_aberration(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="acts through the spherical aberration"):
        make(tmp_path / "x", beam_tilt=[1, 0], spherical_aberration=0)
