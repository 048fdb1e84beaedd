"""Simulated sets: signal-to-noise, truth that reproduces the images, formats, refusals, the demo's cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.pages.write import PAGES
from cryotorch.jobs.simulation import particles as simulation
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.geometry.symmetry import point_group, symmetry_correlation
from cryotorch.ops.models.phantom import phantom

SMALL: dict[str, Any] = dict(box_size=32, pixel_size=5, n_particles=20, minibatch_size=8)


@pytest.fixture(scope="module", autouse=True)
def molecule(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One phantom for all, as a file: folding it takes longer than all the rest."""
    path = tmp_path_factory.mktemp("molecule") / "phantom.mrc"
    write_volume(path, phantom(32, 5.0, point_group("C1")), 5)
    SMALL["source"] = str(path)


def make(out: Path, **changes: Any) -> Path:
    return simulate.run(make_settings("simulate", out=str(out), **{**SMALL, **changes}))


def stack(folder: Path) -> np.ndarray:
    with mrcfile.open(folder / "particles.mrcs") as file:
        return file.data.astype(np.float32)


def predicted(folder: Path) -> np.ndarray:
    """The noise-free images that truth.mrc and truth.star promise."""
    truth = read_particles(folder / "truth.star")
    volume, _ = read_volume(folder / "truth.mrc")
    rows = torch.arange(len(truth.particles))
    spectra = simulation.signal_spectra(projector(volume), truth.particles, rows)
    return unpack(spectra, truth.box).numpy()


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, molecule: None) -> Path:
    """300 particles with everything that can vary."""
    out = tmp_path_factory.mktemp("simulate") / "set"
    return make(out, n_particles=300, scale_sigma=0.2, astigmatism=3000)


def test_the_files_are_there_and_readable(made: Path) -> None:
    assert sorted(p.name for p in made.iterdir()) == sorted(
        [*simulate.FILES, *PAGES, "manifest.json"]
    )
    for name in ("particles.mrcs", "truth.mrc", "initial.mrc"):
        assert mrcfile.validate(made / name)
    for name in ("particles.star", "truth.star"):
        file = read_particles(made / name)
        assert (len(file.particles), file.box, file.pixel_size) == (300, 32, 5)
        assert not file.messages
    assert stack(made).shape == (300, 32, 32)
    assert read_volume(made / "truth.mrc")[1] == pytest.approx(5)


def test_particles_star_knows_the_ctf_but_nothing_else(made: Path) -> None:
    labels = set(read_star(made / "particles.star")["particles"])
    assert {"rlnImageName", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"} <= labels
    assert not [x for x in labels if x.startswith(("rlnAngle", "rlnOrigin", "cryotorch"))]
    blind, truth = read_particles(made / "particles.star"), read_particles(made / "truth.star")
    assert not blind.particles.has_pose and truth.particles.has_pose
    assert torch.equal(blind.particles.defocus, truth.particles.defocus)


def test_measured_snr_is_the_one_asked_for(made: Path) -> None:
    images, signal = stack(made), predicted(made)
    noise = images - signal
    assert noise.var() == pytest.approx(1, abs=0.01)
    assert signal.var(axis=(1, 2)).mean() == pytest.approx(0.1, rel=0.01)


def test_noise_is_white(made: Path) -> None:
    noise = stack(made) - predicted(made)
    power = (np.abs(np.fft.rfft2(noise)) ** 2).mean(0) / 32**2
    assert power[:, :8].mean() == pytest.approx(power[:, 8:].mean(), rel=0.02)
    assert abs((noise[:-1] * noise[1:]).mean()) < 0.01


def test_poses_of_truth_star_reproduce_the_images(tmp_path: Path) -> None:
    """Without noise to rounding; the wrong pose, shift sense or transposed matrix fall far short."""
    out = make(tmp_path / "clean", snr=None, scale_sigma=0.3)
    images = stack(out)
    assert images.var(axis=(1, 2)).mean() == pytest.approx(1, rel=1e-3)
    assert correlations(images, predicted(out)).min() > 0.99999
    assert np.allclose(images, predicted(out), atol=1e-3)
    truth = read_particles(out / "truth.star").particles
    volume, _ = read_volume(out / "truth.mrc")
    rows = torch.arange(20)
    for wrong in (
        truth.replace(rotation=truth.rotation.mT.contiguous()),
        truth.replace(shift=-truth.shift),
        truth.replace(shift=truth.shift.flip(1)),
    ):
        other = unpack(simulation.signal_spectra(projector(volume), wrong, rows), 32).numpy()
        assert correlations(images, other).mean() < 0.8


def test_noisy_images_correlate_with_their_signal_as_the_snr_says(made: Path) -> None:
    """sqrt(snr / (1 + snr)) = 0.30 for the mean particle."""
    found = correlations(stack(made), predicted(made)).mean()
    assert found == pytest.approx((0.1 / 1.1) ** 0.5, abs=0.02)


def test_distributions_are_those_of_the_settings(made: Path) -> None:
    particles = read_particles(made / "truth.star").particles
    u, v, angle = particles.defocus.unbind(1)
    mean = (u + v) / 2
    assert 8000 < float(mean.min()) < 8800 and 19_200 < float(mean.max()) < 20_000
    assert 0 <= float((u - v).min()) and 2700 < float((u - v).max()) < 3000
    assert 0 <= float(angle.min()) < 0.1 and 3.0 < float(angle.max()) < 3.15
    assert particles.shift.std(0).tolist() == pytest.approx([6, 6], rel=0.15)
    assert float(particles.scale.mean()) == pytest.approx(1, abs=0.04)
    assert float(particles.scale.std()) == pytest.approx(0.2, rel=0.15)
    assert float(particles.rotation[:, 2].mean(0).norm()) < 0.15
    assert particles.optics.voltage_kv.tolist() == [300]


def test_preferred_views_gather_around_z(tmp_path: Path) -> None:
    out = make(tmp_path / "top", n_particles=200, orientations="preferred", concentration=20)
    view = read_particles(out / "truth.star").particles.rotation[:, 2]
    assert float(view[:, 2].mean()) == pytest.approx(0.95, abs=0.02)


def test_same_seed_same_files_whatever_the_batches(tmp_path: Path) -> None:
    one, two = make(tmp_path / "1"), make(tmp_path / "2")
    for name in simulate.FILES:
        if name != "config.yaml":
            assert (one / name).read_bytes() == (two / name).read_bytes(), name
    batches, other = make(tmp_path / "3", minibatch_size=3), make(tmp_path / "4", seed=1)
    assert np.allclose(stack(one), stack(batches), atol=1e-4)
    assert not np.allclose(stack(one), stack(other), atol=0.1)
    assert (one / "truth.star").read_bytes() == (batches / "truth.star").read_bytes()


def test_phantoms_differ_by_their_seed(tmp_path: Path) -> None:
    small = dict(source="phantom", box_size=24, n_particles=2, snr=None)
    maps = [
        read_volume(make(tmp_path / str(i), **small, phantom_seed=i) / "truth.mrc")[0]
        for i in range(2)
    ]
    assert float(torch.corrcoef(torch.stack([m.flatten() for m in maps]))[0, 1]) < 0.9


def test_float16_is_half_the_size_and_the_same_images(tmp_path: Path) -> None:
    full, half = make(tmp_path / "32"), make(tmp_path / "16", dtype="float16")
    with mrcfile.open(half / "particles.mrcs") as file:
        assert file.header.mode == 12
    assert np.allclose(stack(full), stack(half), atol=3e-3)
    assert read_particles(half / "particles.star").box == 32


def test_initial_map_is_the_truth_at_low_resolution(made: Path) -> None:
    truth, initial = (read_volume(made / f"{n}.mrc")[0] for n in ("truth", "initial"))
    ratio = torch.fft.rfftn(initial).abs() / torch.fft.rfftn(truth).abs()
    shell = 160 / 30  # 30 Å, where the filter has 1 / sqrt(2)
    assert float(ratio[0, 0, 3]) == pytest.approx(1, abs=1e-3)
    assert float(ratio[0, 0, 5]) > 0.7 > float(ratio[0, 0, round(shell) + 1])
    assert float(ratio[0, 0, 9]) < 0.02


def test_symmetric_phantom_is_symmetric(tmp_path: Path) -> None:
    out = make(tmp_path / "d3", source="phantom", symmetry="D3", resolution=20)
    volume, _ = read_volume(out / "truth.mrc")
    assert float(symmetry_correlation(volume, point_group("D3")).min()) > 0.999
    assert float(symmetry_correlation(volume, point_group("D6")).min()) < 0.9


def test_bfactor_and_lengths_with_units(tmp_path: Path) -> None:
    sharp = make(tmp_path / "0", snr=None, shift_sigma="1px", defocus_min="1000nm")
    blurred = make(tmp_path / "b", snr=None, bfactor=400)
    assert read_particles(sharp / "truth.star").particles.shift.std() == pytest.approx(5, rel=0.3)
    assert float(read_particles(sharp / "truth.star").particles.defocus[:, 0].min()) > 9999
    a, b = (torch.fft.rfftn(read_volume(x / "truth.mrc")[0]).abs() for x in (sharp, blurred))
    shell = 12
    loss = (b[0, 0, shell] / a[0, 0, shell]) / (b[0, 0, 1] / a[0, 0, 1])
    expected = np.exp(-400 / 4 * (shell**2 - 1) / 160**2)
    assert float(loss) == pytest.approx(expected, rel=1e-2)


def test_a_map_as_source_is_resampled(tmp_path: Path, made: Path) -> None:
    """The truth of one set, at another pixel size, is the source of the next."""
    same = make(tmp_path / "same", source=str(made / "truth.mrc"))
    finer = make(tmp_path / "finer", source=str(made / "truth.mrc"), box_size=40, pixel_size=4)
    original = read_volume(made / "truth.mrc")[0]
    pair = torch.stack([original.flatten(), read_volume(same / "truth.mrc")[0].flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.99999
    assert read_volume(finer / "truth.mrc")[1] == pytest.approx(4)
    with pytest.raises(InputError, match=r"box_size=8 .* holds only"):
        make(tmp_path / "x", source=str(made / "truth.mrc"), box_size=8)
    with pytest.raises(InputError, match="does not have symmetry=C2"):
        make(tmp_path / "x", source=str(made / "truth.mrc"), symmetry="C2")
    write_volume(tmp_path / "blank.mrc", torch.zeros(32, 32, 32), 5)
    with pytest.raises(InputError, match="is blank"):
        make(tmp_path / "x", source=str(tmp_path / "blank.mrc"))
    assert not (tmp_path / "x").exists()


@pytest.mark.data
def test_a_model_as_source(tmp_path: Path, shared_data: Path) -> None:
    model = str(shared_data / "real/pdb3j5p.pdb.gz")
    out = make(tmp_path / "c4", source=model, symmetry="C4", box_size=40, resolution=20, snr=None)
    volume, _ = read_volume(out / "truth.mrc")
    assert float(symmetry_correlation(volume, point_group("C4")).min()) > 0.999
    assert correlations(stack(out), predicted(out)).min() > 0.99999
    with pytest.raises(InputError, match=r"too small for .*use box_size=44"):
        make(tmp_path / "x", source=model, box_size=24)
    with pytest.raises(InputError, match="does not have symmetry=C3"):
        make(tmp_path / "x", source=model, symmetry="C3", box_size=40)


@pytest.mark.relion
def test_relion_project_makes_the_same_images(tmp_path: Path) -> None:
    """Poses, shifts and CTF of truth.star mean to RELION what they mean here."""
    out = make(tmp_path / "set", snr=None, orientations="preferred", astigmatism=3000)
    command = "relion_project --i truth.mrc --ang truth.star --o relion --ctf --angpix 5 --pad 2"
    subprocess.run(command.split(), cwd=out, check=True, capture_output=True, timeout=100)
    with mrcfile.open(out / "relion.mrcs", permissive=True) as file:
        other = file.data.copy()
    assert correlations(stack(out), other).min() > 0.999


def test_results_are_never_overwritten_by_accident(tmp_path: Path) -> None:
    out = make(tmp_path / "set")
    before = (out / "particles.mrcs").read_bytes()
    with pytest.raises(InputError, match=r"already holds a run.*overwrite=true"):
        make(out, seed=1)
    assert (out / "particles.mrcs").read_bytes() == before
    make(out, seed=1, overwrite=True)
    assert (out / "particles.mrcs").read_bytes() != before
    assert sorted(p.name for p in out.iterdir()) == sorted(
        [*simulate.FILES, *PAGES, "manifest.json"]
    )
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    assert (make(tmp_path / "own") / "notes.txt").read_text() == "mine"


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.mrc does not exist"):
        make(tmp_path / "set", source=str(tmp_path / "none.mrc"))
    assert not (tmp_path / "set").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, name another folder"):
        make(tmp_path / "file" / "set")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("box_size", 33, "must be even"),
        ("box_size", 4, "from 8 to 1000000 pixels"),
        ("n_particles", 0, "above zero"),
        ("n_particles", "many", "a whole number"),
        ("snr", 0, "above zero"),
        ("snr", -1, "above zero"),
        ("pixel_size", 0, "above zero"),
        ("defocus_max", 1000, "below defocus_min=8000"),
        ("shift_sigma", -1, "must not be negative"),
        ("scale_sigma", -0.1, "must not be negative"),
        ("amplitude_contrast", 1.5, "from 0 to 1"),
        ("resolution", 3, "at least two pixels"),
        ("dtype", "float64", "float32 or float16"),
        ("orientations", "some", "uniform or preferred"),
        ("symmetry", "X9", "symmetry=X9 cannot be used"),
        ("source", "none.pdb", r"none\.pdb does not exist"),
        ("minibatch_size", 0, "above zero"),
        ("seed", -1, "must not be negative"),
        ("out", None, "name a folder"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(
    tmp_path: Path, name: str, value: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        simulate.run(
            make_settings("simulate", **{**SMALL, "out": str(tmp_path / "x"), name: value})
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_demo_is_made_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulate, "DEMO", {**simulate.DEMO, **SMALL})
    monkeypatch.setenv("CRYOTORCH_CACHE", str(tmp_path / "cache"))
    folder = simulate.demo_folder()
    assert folder.parent == tmp_path / "cache"
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*simulate.FILES, *PAGES, "manifest.json"]
    )
    assert "making the demo set" in capsys.readouterr().out
    stamp = (folder / "particles.mrcs").stat().st_mtime_ns
    assert simulate.demo_folder() == folder
    assert (folder / "particles.mrcs").stat().st_mtime_ns == stamp
    assert capsys.readouterr().out == ""
    (folder / "truth.mrc").unlink()
    assert simulate.demo_folder() == folder
    assert (folder / "truth.mrc").is_file()
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    monkeypatch.setattr(simulate, "DEMO", {**simulate.DEMO, "seed": 5})
    assert simulate.demo_folder() != folder


def test_demo_cache_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRYOTORCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert simulate._cache(None) == tmp_path / ".cache" / "cryotorch"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert simulate._cache(None) == tmp_path / "xdg" / "cryotorch"
    monkeypatch.setenv("CRYOTORCH_CACHE", str(tmp_path / "own"))
    assert simulate._cache(None) == tmp_path / "own"
    assert simulate._cache(tmp_path / "given") == tmp_path / "given"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="set CRYOTORCH_CACHE"):
        simulate.demo_folder(tmp_path / "file" / "cache")


def test_demos_made_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    code = f"from cryotorch.jobs import simulate as s; s.DEMO.update({SMALL!r}); s.demo_folder()"
    commands = [
        subprocess.Popen([sys.executable, "-c", code], env=_environment(tmp_path), stdout=-3)
        for _ in range(2)
    ]
    assert [command.wait(timeout=60) for command in commands] == [0, 0]
    (folder,) = tmp_path.iterdir()
    assert len(stack(folder)) == 20


def _environment(cache: Path) -> dict[str, str]:
    root = str(Path(simulate.__file__).parents[2])
    return {**os.environ, "CRYOTORCH_CACHE": str(cache), "PYTHONPATH": root}


def test_the_demo_is_small_and_hard_enough() -> None:
    settings = make_settings("simulate", **simulate.DEMO)
    assert settings.n_particles == 1000
    assert settings.box_size in range(48, 65)
    assert (settings.symmetry, settings.snr, settings.source) == ("C1", 0.1, "phantom")


def test_the_command_line_runs_it(tmp_path: Path) -> None:
    arguments = [f"{name}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "cryotorch", "job=simulate", f"out={tmp_path / 'cli'}"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=tmp_path,
        env=_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "20 particles of 32 pixels, 5 Å per pixel, SNR 0.1" in done.stdout
    assert read_particles(tmp_path / "cli" / "particles.star").box == 32
