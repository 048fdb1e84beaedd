"""job=homo_refine as a user runs it, on sets small enough for seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cryotorch
from cryotorch import __main__ as cli
from cryotorch.data.mrc import read_volume, write_stack
from cryotorch.data.star import read_star, write_star
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.pages.write import PAGES
from cryotorch.ops.geometry.rotations import euler_to_matrix, rotation_angle
from cryotorch.ops.geometry.symmetry import point_group, symmetry_correlation
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.report.figures import FIGURES, OPTIONAL
from cryotorch.report.tensorboard import MAP
from cryotorch.results import CURVES

N, BOX, PIXEL = 240, 32, 3.0
VOLUMES = ("map", "map_sharp", "map_half_A", "map_half_B", "mask_refine", "mask_fsc")
# A coarse grid and few candidates: these particles are easy.
QUICK = (
    *("search.grid_step=15", "search.candidates=4", "minibatch_size=32", "trainer=cpu"),
    "mask_start_resolution=16",  # early, as these maps end at 12 Å
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cryotorch", "job=homo_refine", *arguments]


def environment() -> dict[str, str]:
    """One thread, as sums in another order are not the same bits."""
    path = str(Path(cryotorch.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def refine(*arguments: str, cwd: Path, timeout: float = 120) -> str:
    """What a run prints; it must end well, and in time, which a deadlock does not."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def refine_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """refine_here(*arguments, cwd): the same command in this process, which has imported all that it needs."""

    def refine_here(*arguments: str, cwd: Path) -> None:
        monkeypatch.chdir(cwd)
        monkeypatch.setenv("CRYOTORCH_STARTED", "")  # so that what main() sets is undone
        monkeypatch.delenv("CRYOTORCH_STARTED")
        monkeypatch.setattr(sys, "argv", ["cryotorch", "job=homo_refine", *arguments])
        cli.main()

    return refine_here


@dataclass
class Run:
    """A finished run."""

    out: Path

    def volume(self, name: str) -> torch.Tensor:
        volume, pixel_size = read_volume(self.out / f"{name}.mrc")
        assert pixel_size == pytest.approx(PIXEL) and volume.isfinite().all()
        return volume

    @property
    def summary(self) -> dict:
        return json.loads((self.out / "summary.json").read_text())

    @property
    def particles(self):
        return read_star(self.out / "particles.star")["particles"]

    def half_maps(self) -> torch.Tensor:
        return torch.stack([self.volume("map_half_A"), self.volume("map_half_B")])


def simulated(folder: Path, **changes) -> Path:
    """A set whose signal ends well before Nyquist, like real ones'."""
    settings = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=0.5, bfactor=900, seed=3)
    simulate.run(make_settings("simulate", out=str(folder), shift_sigma=3, **(settings | changes)))
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated particles with columns that cryotorch does not know."""
    folder = simulated(tmp_path_factory.mktemp("sets") / "tiny")
    blocks = read_star(folder / "particles.star")
    blocks["particles"]["rlnMicrographName"] = [f"mic{i // 40}.mrc" for i in range(N)]
    blocks["particles"]["myNote"] = [f"note {i}" for i in range(N)]
    blocks["optics"]["rlnMtfFileName"] = ["k3.star"]
    write_star(folder / "particles.star", blocks)
    return folder


@pytest.fixture(scope="session")
def whole(tiny: Path) -> Run:
    """An uninterrupted run in one process."""
    log = refine(*inputs(tiny), "out=whole", cwd=tiny)
    (tiny / "printed.txt").write_text(log)
    return Run(tiny / "whole")


def inputs(folder: Path) -> tuple[str, ...]:
    return (
        f"particles={folder}/particles.star",
        f"volume={folder}/initial.mrc",
        "max_iterations=3",
        *QUICK,
    )


def test_maps_are_those_of_the_molecule(whole: Run, tiny: Path) -> None:
    truth = read_volume(tiny / "truth.mrc")[0]
    mask = whole.volume("mask_fsc")
    curve = shell_correlation(whole.volume("map") * mask, truth * mask)
    shell = round(BOX * PIXEL / whole.summary["resolution"])
    assert 6 <= shell < BOX // 2 - 2
    assert curve[: shell - 1].min() > 0.8 and curve[shell] > 0.4
    for name in ("mask_refine", "mask_fsc"):
        volume = whole.volume(name)
        assert volume.min() >= 0 and volume.max() == pytest.approx(1, abs=1e-5)
    for name in VOLUMES:
        with mrcfile.open(whole.out / f"{name}.mrc") as file:
            assert file.data.shape == (BOX,) * 3 and file.data.dtype == np.float32
    a, b = whole.half_maps()
    assert not torch.equal(a, b)


def test_outputs_are_complete(whole: Run) -> None:
    names = {p.name for p in whole.out.iterdir()}
    curves = {f"fsc_{name}.xml" for name in CURVES}
    files = {
        "particles.star",
        "fsc.txt",
        "fsc_iterations.txt",
        "summary.json",
        "config.yaml",
        "log.txt",
        "manifest.json",
        *PAGES,
        "orientations.bild",
    }
    assert names == {f"{v}.mrc" for v in VOLUMES} | files | curves | {
        "plots",
        "tensorboard",
        "checkpoints",
    }
    assert {p.stem for p in (whole.out / "plots").glob("*.png")} == set(FIGURES) - set(OPTIONAL)
    assert sorted(p.name for p in (whole.out / "checkpoints").iterdir()) == [
        "iteration_002.ckpt",
        "iteration_003.ckpt",
    ]


def test_the_summary_agrees_with_the_files(whole: Run) -> None:
    s = whole.summary
    assert s["final"] and s["iterations"] == 3 == len(s["history"])
    assert s["particles"] == N and s["half_sets"] == [N // 2, N // 2]
    assert (s["box"], s["pixel_size"], s["nyquist"]) == (BOX, PIXEL, 2 * PIXEL)
    assert s["version"] == cryotorch.__version__ and "cpu" in s["device"]
    assert s["resolution"] == s["resolutions"]["corrected"] == s["history"][-1]["resolution"]
    assert set(s["resolutions"]) == set(CURVES) - {"randomised"}
    assert s["seconds"]["total"] > 0 and s["peak_memory_mib"]["host"] > 100
    # the unmasked curve can be had from the half maps again
    table = np.genfromtxt(whole.out / "fsc.txt", names=True)
    again = shell_correlation(*whole.half_maps())[1:].numpy()
    np.testing.assert_allclose(table["fsc_nomask"], again, atol=1e-4)
    first_below = int(np.argmax(table["fsc_noisesub"] < 0.143))
    assert s["resolution"] == pytest.approx(BOX * PIXEL / table["wave_number"][first_below - 1])
    for name in CURVES:
        root = ElementTree.parse(whole.out / f"fsc_{name}.xml").getroot()
        assert root.tag == "fsc" and len(root.findall("coordinate")) >= BOX // 2
    log = (whole.out / "log.txt").read_text()
    assert all(f"Iteration  {i}" in log for i in (1, 2, 3)) and f"{s['resolution']:.2f} Å" in log


def test_the_star_file_keeps_what_it_was_given(whole: Run, tiny: Path) -> None:
    before, after = read_star(tiny / "particles.star"), read_star(whole.out / "particles.star")
    for label in before["particles"]:
        if label != "rlnImageName":
            assert after["particles"][label].tolist() == before["particles"][label].tolist(), label
    assert after["optics"]["rlnMtfFileName"].tolist() == ["k3.star"]
    numbers = [name.split("@") for name in after["particles"]["rlnImageName"]]
    assert [int(number) for number, _ in numbers] == list(range(1, N + 1))
    assert all(Path(tiny, path).resolve() == tiny / "particles.mrcs" for _, path in numbers)
    assert sorted(set(after["particles"].integers("rlnRandomSubset"))) == [1, 2]


def matrices(table) -> torch.Tensor:
    angles = [table.floats(f"rlnAngle{name}") for name in ("Rot", "Tilt", "Psi")]
    return euler_to_matrix(*torch.from_numpy(np.deg2rad(angles)))


def test_poses_are_the_true_ones_within_their_uncertainty(whole: Run, tiny: Path) -> None:
    found, truth = whole.particles, read_star(tiny / "truth.star")["particles"]
    angle = rotation_angle(matrices(found), matrices(truth)).rad2deg().numpy()
    labels = ("rlnOriginXAngst", "rlnOriginYAngst")
    move = np.hypot(*(found.floats(label) - truth.floats(label) for label in labels))
    assert np.median(angle) < 9 and np.median(move) < 1
    # three angles of the stated sigma each: the median of the whole is 1.54 sigma
    sigma = found.floats("cryotorchRotationSigma")
    assert 0.8 < np.median(angle / sigma) / 1.54 < 2.3
    assert found.floats("cryotorchScale").mean() == pytest.approx(1, abs=0.01)


def test_the_configuration_repeats_the_run(whole: Run, tiny: Path) -> None:
    config = yaml.safe_load((whole.out / "config.yaml").read_text())
    assert config["particles"] == f"{tiny}/particles.star" and config["max_iterations"] == 3
    assert config["search"]["grid_step"] == 15 and config["symmetry"] == "C1"
    assert config["split_resolution"] == 20  # defaults too


def test_tensorboard_shows_every_iteration(whole: Run) -> None:
    events = EventAccumulator(
        str(whole.out / "tensorboard"), size_guidance={"images": 0, "scalars": 0}
    )
    events.Reload()
    tags = events.Tags()
    assert {"resolution/claimed", "change/rotation_deg", "seconds/coarse"} <= set(tags["scalars"])
    assert [e.step for e in events.Scalars("seconds/coarse")] == [1, 2, 3]
    # a point for each iteration that could claim something
    found = {e.step: e.value for e in events.Scalars("resolution/claimed")}
    told = {h["iteration"]: h["resolution"] for h in whole.summary["history"]}
    assert found == {
        step: pytest.approx(value, rel=1e-5) for step, value in told.items() if value is not None
    }
    assert 3 in found
    assert {"plots/fsc", "plots/slices"} <= set(tags["images"])
    assert f"{MAP}_VERTEX" in tags["tensors"]


def test_killed_and_resumed_it_ends_with_the_same_bits(whole: Run, tiny: Path) -> None:
    out = tiny / "killed"
    process = subprocess.Popen(
        command(*inputs(tiny), "out=killed"),
        cwd=tiny,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120
    while not (out / "checkpoints" / "iteration_001.ckpt").exists():
        assert process.poll() is None and time.monotonic() < until, (
            "ended before the first iteration did"
        )
        time.sleep(0.01)
    time.sleep(0.3)  # into the second iteration
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "particles.star").exists()

    elsewhere = tiny / "elsewhere"
    elsewhere.mkdir()
    resume = [sys.executable, "-m", "cryotorch", "out=../killed", "resume=true"]
    done = subprocess.run(
        resume, cwd=elsewhere, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "resumed with" not in done.stdout, done.stdout + done.stderr
    assert done.stderr == "" and (out / "checkpoints" / "iteration_003.ckpt").is_file()
    resumed = Run(out)
    assert torch.equal(resumed.half_maps(), whole.half_maps())
    assert torch.equal(resumed.volume("map"), whole.volume("map"))
    assert resumed.particles == whole.particles
    assert [h["iteration"] for h in resumed.summary["history"]] == [1, 2, 3]
    steps = EventAccumulator(str(out / "tensorboard"))
    steps.Reload()
    assert {e.step for e in steps.Scalars("seconds/coarse")} == {1, 2, 3}


def test_two_processes_find_what_one_finds(whole: Run, tiny: Path) -> None:
    two = ("trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=ddp")
    log = refine(*inputs(tiny), *two, "out=two", cwd=tiny, timeout=180)
    assert log.count("Iteration  1 ") == 1  # one of them speaks
    run = Run(tiny / "two")
    pair = torch.stack([run.volume("map").flatten(), whole.volume("map").flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.9999
    assert run.summary["resolution"] == whole.summary["resolution"]
    # each particle's row is the sum over the ranks: counted twice or never, its shift would not be this one
    found, expected = run.particles, whole.particles
    assert found["rlnImageName"].tolist() == expected["rlnImageName"].tolist()
    assert found["rlnRandomSubset"].tolist() == expected["rlnRandomSubset"].tolist()
    angle = rotation_angle(matrices(found), matrices(expected)).rad2deg()
    assert (angle < 0.1).float().mean() > 0.97
    move = found.floats("rlnOriginXAngst") - expected.floats("rlnOriginXAngst")
    assert (np.abs(move) < 0.01).mean() > 0.97
    assert (found.floats("cryotorchRotationSigma") > 0).all()


def test_noise_is_not_taken_for_a_map(refine_here: Callable, tmp_path: Path) -> None:
    """White noise instead of images: the half maps agree where they are shared, nowhere beyond."""
    box, n = 24, 500
    simulated(tmp_path, box_size=box, pixel_size=7.0, n_particles=n, bfactor=0)
    noise = np.random.default_rng(1).normal(size=(n, box, box)).astype(np.float32)
    write_stack(tmp_path / "particles.mrcs", [noise], n, box, 7.0)
    refine_here(*inputs(tmp_path)[:2], "out=out", "max_iterations=4", *QUICK, cwd=tmp_path)
    summary = Run(tmp_path / "out").summary
    assert summary["resolution"] is None and summary["warnings"]
    assert set(summary["resolutions"].values()) == {None}
    assert {row["resolution"] for row in summary["history"]} == {None}


@pytest.mark.parametrize("symmetry", ["C4", "D2"])
def test_a_symmetric_set_gives_a_symmetric_map(
    symmetry: str, refine_here: Callable, tmp_path: Path
) -> None:
    simulated(tmp_path, n_particles=80, symmetry=symmetry)
    refine_here(
        *inputs(tmp_path)[:2],
        f"symmetry={symmetry}",
        "out=out",
        "max_iterations=2",
        *QUICK,
        cwd=tmp_path,
    )
    run = Run(tmp_path / "out")
    volume = run.volume("map") * run.volume("mask_fsc")
    assert symmetry_correlation(volume, point_group(symmetry)).min() > 0.999
    truth = read_volume(tmp_path / "truth.mrc")[0]
    curve = shell_correlation(volume, truth * run.volume("mask_fsc"))
    assert curve[:8].min() > 0.9
    assert run.summary["symmetry"] == symmetry


def test_pixels_cropped_in_fourier_space(tiny: Path, refine_here: Callable, tmp_path: Path) -> None:
    """box_size=24: larger pixels, a map of that box, poses in Å as before."""
    refine_here(
        *inputs(tiny)[:2],
        "box_size=24",
        f"out={tmp_path}/out",
        "max_iterations=2",
        *QUICK,
        cwd=tmp_path,
    )
    volume, pixel_size = read_volume(tmp_path / "out" / "map.mrc")
    assert volume.shape == (24, 24, 24) and pixel_size == pytest.approx(4.0)
    found = read_star(tmp_path / "out" / "particles.star")
    truth = read_star(tiny / "truth.star")["particles"]
    move = found["particles"].floats("rlnOriginXAngst") - truth.floats("rlnOriginXAngst")
    assert np.median(np.abs(move)) < 1
    assert found["optics"].floats("rlnImagePixelSize").tolist() == [
        PIXEL
    ]  # of the stack, which is as it was


@pytest.mark.relion
def test_relion_reconstructs_the_same_map(whole: Run, tiny: Path) -> None:
    program = shutil.which("relion_reconstruct")
    done = subprocess.run(
        [program, "--i", "whole/particles.star", "--o", "relion.mrc", "--ctf"],
        cwd=tiny,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    theirs = read_volume(tiny / "relion.mrc")[0]
    ours, mask = whole.half_maps().mean(0), whole.volume("mask_fsc")
    shell = round(BOX * PIXEL / whole.summary["resolution"])
    curve = shell_correlation(ours * mask, theirs * mask)
    assert curve[: shell + 1].min() > 0.95
