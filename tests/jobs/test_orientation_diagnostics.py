"""Orientation diagnostics through the command line: uniform and preferred views, noise, files, refusals."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch import __main__ as cli
from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.jobs.pages.write import PAGES
from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier.reconstruct import collect, shell_mean_weight, solve
from cryotorch.ops.fourier.slices import accumulator, insert_slices_
from cryotorch.ops.fourier.transforms import half_plane, pack
from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.conical_fsc import area_ratio, cone_band, conical_fsc, limits
from cryotorch.ops.resolution.significance import independent_numbers, noise_profile

BOX, PIXEL = 48, 4.0
RESULTS = {
    *("config.yaml", "log.txt", "mask_fsc.mrc", "conical_fsc.csv", "conical_fsc.png"),
    *("directional_resolution.png", "viewing_directions.png", "sampling.png", "tensorboard"),
    *(
        "orientation_diagnostics.png",
        "manifest.json",
        *PAGES,
        "summary.json",
    ),
}


def command(*arguments: str) -> tuple[int, str, str]:
    """The command line in this process: exit code, terminal, error."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CRYOTORCH_STARTED", "HYDRA_FULL_ERROR", "CRYOTORCH_DEBUG", "LOCAL_RANK"):
            patch.setenv(name, "")
            patch.delenv(name)
        patch.setattr(sys, "argv", ["cryotorch", *arguments])
        with redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code
    return code, out.getvalue(), err.getvalue()


def diagnose(*arguments: str, out: str | Path = "out") -> tuple[str, dict]:
    """A run that must go well: what the terminal showed, and the summary."""
    code, said, err = command(
        "job=orientation_diagnostics", f"out={out}", "n_directions=600", *arguments
    )
    assert (code, err) == (0, ""), err
    return said, json.loads((Path(out) / "summary.json").read_text())


def reconstruct(folder: Path) -> None:
    """Half maps from the true poses of simulated particles, by inserting their slices."""
    file = read_particles(folder / "truth.star")
    particles, optics, plane = file.particles, file.particles.optics, half_plane(BOX)
    images = torch.from_numpy(mrcfile.read(folder / "particles.mrcs").astype(np.float32))
    lens = (optics.voltage_kv, optics.spherical_aberration, optics.amplitude_contrast)
    for half, name in enumerate("AB"):
        rows = torch.arange(half, len(particles), 2)
        ctf = contrast_transfer(
            plane.frequency / (BOX * PIXEL),
            particles.defocus[rows],
            particles.phase_shift[rows],
            *(value.expand(len(rows)) for value in lens),
        )
        turn = particles.shift[rows] / (PIXEL * BOX) @ plane.frequency.T
        centred = pack(images[rows]) * torch.exp(-2j * math.pi * turn)
        sums = accumulator(BOX, 2)
        insert_slices_(sums, centred * ctf, ctf**2, particles.rotation[rows], plane.frequency)
        weight = collect(sums)
        volume = solve(weight, 0.1 * shell_mean_weight(weight))
        write_volume(folder / f"map_half_{name}.mrc", volume, PIXEL)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Half maps and particles, seen from everywhere and seen from the top."""
    folders = {}
    for views in ("uniform", "preferred"):
        folder = tmp_path_factory.mktemp("simulated") / views
        size = (f"box_size={BOX}", f"pixel_size={PIXEL}", "n_particles=1200", "snr=0.4")
        code, _, err = command(
            *("job=simulate", f"out={folder}", f"orientations={views}", "concentration=20", *size)
        )
        assert code == 0, err
        reconstruct(folder)
        folders[views] = folder
    return folders


@pytest.fixture(scope="module")
def done(simulated: dict[str, Path]) -> dict[str, tuple[Path, str, dict]]:
    """A run on either: its folder, what the terminal showed, the summary."""
    runs = {}
    for views, folder in simulated.items():
        out = folder.parent / "done"
        runs[views] = (
            out,
            *diagnose(f"volume={folder}", f"particles={folder}/truth.star", out=out),
        )
    return runs


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_uniform_views_score_high(done) -> None:
    out, said, summary = done["uniform"]
    assert summary["cfar"] > 0.8 and summary["scf_star"] > 0.9
    assert summary["reading"].startswith("No orientation bias")
    assert summary["empty_directions"] == 0
    about_mask = ("The mask leaves out", "The corrected FSC never", "The FSC of randomised phases")
    assert all(text.startswith(about_mask) for text in summary["warnings"])
    assert f"cFAR: {summary['cfar']:.2f}" in said
    assert {path.name for path in out.iterdir()} == RESULTS


def test_preferred_views_score_low(done) -> None:
    _, said, summary = done["preferred"]
    assert summary["cfar"] < 0.5 and summary["scf_star"] < 0.5
    assert "preferred orientation" in summary["reading"]
    spread = summary["directional_resolution"]
    assert spread["worst"] > 1.05 * spread["best"]
    # from the top the poles of Fourier space are not seen
    assert summary["worst_direction"]["tilt"] < 60
    assert summary["sampling"]["unsampled"] > 0.2
    assert 0.05 < summary["empty_directions"] < 0.5
    assert "hold less than 5% of the mean power" in said


def test_numbers_are_those_of_the_curves_and_the_written_mask(done, simulated) -> None:
    out, _, summary = done["preferred"]
    mask = read_volume(out / "mask_fsc.mrc")[0]
    a, b = (read_volume(simulated["preferred"] / f"map_half_{n}.mrc")[0] * mask for n in "AB")
    held = conical_fsc(a, b, fibonacci_directions(600)[:300], math.radians(20))
    rows = list(csv.DictReader((out / "conical_fsc.csv").read_text().splitlines()))
    curves = np.array([[float(r[f"fsc_{s}"]) for s in range(BOX // 2 + 1)] for r in rows])
    np.testing.assert_allclose(curves, held.curves, atol=1e-5)
    maps = torch.stack([read_volume(simulated["preferred"] / f"map_half_{n}.mrc")[0] for n in "AB"])
    numbers = independent_numbers(mask, None, noise_profile(maps))
    band = cone_band(numbers, fibonacci_directions(600)[:300], math.radians(20))
    assert summary["cfar"] == pytest.approx(area_ratio(held.curves, limits(band)), abs=1e-6)
    areas = [float(r["area"]) for r in rows]
    assert summary["cfar"] == pytest.approx(min(areas) / max(areas), rel=1e-4)
    reached = [float(r["resolution"]) for r in rows]
    assert summary["directional_resolution"]["worst"] == pytest.approx(max(reached), rel=1e-4)
    worst = rows[int(np.argmax(reached))]
    assert summary["worst_direction"]["rot"] == pytest.approx(float(worst["rot"]), abs=1e-3)
    tilt = math.degrees(math.acos(float(worst["z"])))
    assert float(worst["tilt"]) == pytest.approx(tilt, abs=1e-3)
    assert sum(int(r["empty"]) for r in rows) / 300 == pytest.approx(summary["empty_directions"])


def test_the_page_says_what_the_summary_says(done) -> None:
    out, _, summary = done["preferred"]
    html = (out / "report.html").read_text()
    assert f"<b>{summary['cfar']:.2f}</b>" in html and f"<b>{summary['scf_star']:.2f}</b>" in html
    assert summary["warnings"][0] in html
    assert "Noise in a cone" in html and "whose curve never leaves the band has none" in html
    assert (
        html.count("data:image/png;base64,") == 4
    )  # conical FSC, resolution, sampling, directions


def test_cones_that_hold_everything_reach_what_all_directions_together_do(done, simulated) -> None:
    """The number beside the directions is of their kind."""
    folder = simulated["preferred"]
    said, summary = diagnose(f"volume={folder}", f"particles={folder}/truth.star", "cone_angle=90")
    together = summary["resolution_all_together"]
    for value in summary["directional_resolution"].values():
        assert value == pytest.approx(together, rel=1e-3)
    assert f"of all together {together:.2f} Å (with the mask, not corrected for it)" in said
    _, _, narrow = done["preferred"]
    assert narrow["resolution_all_together"] == pytest.approx(together, rel=1e-6)
    spread = narrow["directional_resolution"]
    assert spread["best"] <= together < spread["worst"] - 1
    page = Path("out/report.html").read_text()
    assert f"not corrected for the mask; all together {together:.2f} Å" in page
    assert f"with the mask, not corrected for it, all together {together:.2f} Å" in page


def test_a_mask_that_limits_is_told_and_the_claim_is_that_of_validation_fsc(simulated) -> None:
    """A mask with hard edges that follow nothing, and one that is wide and soft."""
    draw = torch.Generator().manual_seed(5)
    hard = (torch.rand(BOX, BOX, BOX, generator=draw) > 0.5).float()
    hard[:, :, : BOX // 4] = hard[:, :, -BOX // 4 :] = 0
    write_volume("hard.mrc", hard, PIXEL)
    folder = simulated["uniform"]
    write_volume("soft.mrc", soft_sphere(BOX, 17, 6), PIXEL)
    for mask in ("hard.mrc", "soft.mrc"):
        given = [f"half_map_{name.lower()}={folder}/map_half_{name}.mrc" for name in "AB"]
        said, summary = diagnose(*given, f"mask={mask}", out=f"of_{mask}")
        more = (f"out=val_{mask}", f"mask={mask}", "optimize_mask=false")
        code, _, err = command("job=validation_fsc", *given, *more)
        assert (code, err) == (0, "")
        judged = json.loads(Path(f"val_{mask}/summary.json").read_text())
        assert summary["resolution"] == judged["resolution"]
        assert summary["ended_by"] == judged["ended_by"]
        assert summary["warnings"] == judged["warnings"]
        limits = [text for text in summary["warnings"] if "randomised phases is" in text]
        assert len(limits) == (mask == "hard.mrc") and all(text in said for text in limits)
    assert summary["resolution"] is not None


def test_pure_noise_gets_no_score() -> None:
    draw = torch.Generator().manual_seed(3)
    for name in "AB":
        volume = torch.randn(BOX, BOX, BOX, generator=draw)
        write_volume(f"noise_{name}.mrc", volume, PIXEL)
    said, summary = diagnose("half_map_a=noise_A.mrc", "half_map_b=noise_B.mrc")
    assert summary["cfar"] is summary["scf_star"] is summary["directional_resolution"] is None
    assert "cFAR: none" in said and "share next to nothing" in summary["warnings"][0]
    assert summary["reading"].startswith("No score")
    assert "No score" in Path("out/report.html").read_text()
    assert not Path("out/directional_resolution.png").exists()


def test_a_run_folder_brings_particles_mask_and_symmetry(simulated) -> None:
    """And few particles are counted when asked for."""
    source = simulated["uniform"]
    run = Path("run")
    run.mkdir()
    for name in ("map_half_A.mrc", "map_half_B.mrc"):
        (run / name).symlink_to(source / name)
    (run / "particles.star").write_text((source / "truth.star").read_text())
    (run / "summary.json").write_text('{"symmetry": "c4"}')
    mask = torch.zeros(BOX, BOX, BOX)
    mask[10:-10, 10:-10, 10:-10] = 1
    write_volume(run / "mask_fsc.mrc", mask, PIXEL)
    _, summary = diagnose("volume=run", "max_particles=50")
    counted = summary["sampling"]
    assert (counted["symmetry"], counted["counted"], counted["particles"]) == ("C4", 50, 1200)
    assert counted["slices_per_point"] == pytest.approx(50 * 4 / 46, rel=0.03)
    assert summary["mask"]["file"] == "run/mask_fsc.mrc"
    assert any("slices per point only" in text for text in summary["warnings"])
    _, other = diagnose("volume=run", "max_particles=50", "seed=1", "symmetry=C1", out="other")
    assert other["scf_star"] != summary["scf_star"] and other["sampling"]["symmetry"] == "C1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Two half maps are needed"),
        (["cone_angle=0"], "cone_angle=0 cannot be used"),
        (["cone_angle=91"], "from 0.1 to 90 degrees"),
        (["n_directions=11"], "must be from 12 to 100000"),
        (["sampling_radius=0.5"], "from 1 to 10000 Fourier pixel"),
        (["max_particles=0"], "must be above zero"),
        (["threshold=1.5"], "between 0 and 1"),
        (["mask_near=12", "mask_far=6"], "must be above mask_near=12"),
    ],
)
def test_refusals(arguments: list[str], sentence: str) -> None:
    code, _, err = command("job=orientation_diagnostics", "out=out", *arguments)
    assert code == 1 and sentence in err
    assert not Path("out").exists()


def test_particles_and_symmetry_that_make_no_sense(simulated) -> None:
    maps = f"volume={simulated['uniform']}"
    for argument, sentence in (
        (f"particles={simulated['uniform']}/particles.star", "has no orientations"),
        ("particles=nothing.star", "nothing.star does not exist"),
        ("symmetry=Q3", "symmetry=Q3 cannot be used"),
    ):
        code, _, err = command("job=orientation_diagnostics", "out=out", maps, argument)
        assert code == 1 and sentence in err, err
        assert not Path("out").exists()
