"""Symmetry-expanded particles in every job: taken where poses are given, refused by a global search, never in both halves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import ParticleFile, read_particles, write_particles, write_tables
from cryotorch.errors import InputError
from cryotorch.jobs import (
    convert,
    ctf_refine,
    homo_refine,
    local_refine,
    orientation_diagnostics,
    reconstruct,
    simulate,
)
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.report.style import Picture

BOX, PIXEL, N = 32, 4.0, 60
NO_OPTICS = {"tilt": False, "trefoil": False, "defocus_min_resolution": 25}


@pytest.fixture(autouse=True)
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("reconstruction.results", "fsc.results"):
        monkeypatch.setattr(f"cryotorch.jobs.{module}.render", lambda figure: Picture(b"", 1, 1))


def expand(file: ParticleFile, path: Path, half: np.ndarray | None = None) -> Path:
    """What RELION's relion_particle_symmetry_expand and CryoSPARC's Symmetry Expansion write, for C4."""
    rows = torch.arange(N).repeat_interleave(4)
    particles = file.particles[rows]
    turn = point_group("C4").float().repeat(N, 1, 1)
    tables = {**file.tables, "particles": file.tables["particles"].taken(rows.numpy())}
    write_tables(path, tables)
    source = read_particles(path)
    particles = particles.replace(rotation=particles.rotation @ turn)
    if half is not None:
        particles = particles.replace(half=torch.from_numpy(half))
    write_particles(path, source, particles)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A C4 set in half sets, its expanded files, and the map of the set itself."""
    folder = tmp_path_factory.mktemp("world") / "set"
    small = {"box_size": BOX, "pixel_size": PIXEL, "n_particles": N, "snr": 1.0, "seed": 2}
    simulate.run(make_settings("simulate", out=str(folder), symmetry="C4", **small))
    file = read_particles(folder / "truth.star")
    halves = torch.arange(N) % 2
    write_particles(folder / "plain.star", file, file.particles.replace(half=halves))
    file = read_particles(folder / "plain.star")
    expand(file, folder / "expanded.star")
    expand(file, folder / "expanded.cs")
    expand(file, folder / "mixed.star", np.arange(4 * N) % 2)
    write_volume(folder / "mask.mrc", soft_sphere(BOX, 7, 6), PIXEL)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("reconstruction.results", "fsc.results"):
            patch.setattr(f"cryotorch.jobs.{module}.render", lambda figure: Picture(b"", 1, 1))
        run(reconstruct, folder / "plain.star", folder / "plain", symmetry="C4")
    return folder


def run(job, particles: Path, out: Path, **changes) -> dict:
    given = {name: str(x) if isinstance(x, Path) else x for name, x in changes.items()}
    name = job.__name__.rpartition(".")[2]
    job.run(make_settings(name, particles=str(particles), out=str(out), **given))
    return json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize("ending", ["star", "cs"])
def test_the_map_is_that_of_the_set_itself(world: Path, tmp_path: Path, ending: str) -> None:
    summary = run(reconstruct, world / f"expanded.{ending}", tmp_path / "out")
    assert (summary["particles"], summary["images"]) == (4 * N, N)
    assert summary["half_sets"] == [2 * N, 2 * N]
    log = (tmp_path / "out" / "log.txt").read_text()
    assert f"240 rows of {world}/expanded.{ending} show 60 images, each 4 times" in log
    assert "more than once" not in log
    for half in "AB":
        first, second = (
            read_volume(x / f"map_half_{half}.mrc")[0] for x in (world / "plain", tmp_path / "out")
        )
        # symmetrising leaves the shell at Nyquist empty
        first, second = (low_pass(v, PIXEL, 2.8 * PIXEL) for v in (first, second))
        assert float(torch.corrcoef(torch.stack([first.ravel(), second.ravel()]))[0, 1]) > 0.99


def test_the_symmetry_applied_once_more_is_told(world: Path, tmp_path: Path) -> None:
    said = f"180 of {4 * N} particles are copies that symmetry=C4 makes of others"
    run(reconstruct, world / "expanded.star", tmp_path / "map", symmetry="C4")
    assert said in (tmp_path / "map" / "log.txt").read_text()
    views = {"volume": world / "plain", "n_directions": 48, "symmetry": "C4"}
    run(orientation_diagnostics, world / "expanded.star", tmp_path / "views", **views)
    assert said in (tmp_path / "views" / "log.txt").read_text()


def test_images_in_both_half_sets_are_refused_and_drawn_anew(world: Path, tmp_path: Path) -> None:
    both = f"{N} images are in both half sets, .*"
    with pytest.raises(InputError, match=both + "add half_sets=resplit"):
        run(reconstruct, world / "mixed.star", tmp_path / "out")
    with pytest.raises(InputError, match=both + "keep all rows of an image in one half set"):
        given = {"volume": world / "plain", **NO_OPTICS}
        run(ctf_refine, world / "mixed.star", tmp_path / "ctf", **given)
    run(reconstruct, world / "mixed.star", tmp_path / "out", half_sets="resplit")
    half = read_particles(tmp_path / "out" / "particles.star").particles.half.view(N, 4)
    assert (half == half[:, :1]).all() and half[:, 0].sum() == N // 2


def test_a_local_refinement_keeps_every_row(world: Path, tmp_path: Path) -> None:
    given = {"volume": world / "plain", "mask": world / "mask.mrc", "max_iterations": 1}
    summary = run(local_refine, world / "expanded.star", tmp_path / "out", **given)
    assert summary["resolution"] < 30
    found = read_particles(tmp_path / "out" / "particles.star").particles
    assert len(found) == 4 * N and found.half.view(N, 4).unique(dim=1).shape[1] == 1


def test_the_defocus_of_every_row(world: Path, tmp_path: Path) -> None:
    given = {"volume": world / "plain", **NO_OPTICS}
    run(ctf_refine, world / "expanded.star", tmp_path / "out", **given)
    found = read_particles(tmp_path / "out" / "particles.star").particles.defocus.view(N, 4, 3)
    spread = found[:, :, 0].std(1)  # rows of one image tell the same
    assert float(spread.median()) < 0.2 * float((found[:, 0] - found.mean((0, 1))).abs().mean())


def test_a_global_search_refuses_them_with_the_jobs_that_do_not(
    world: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"180 duplicate particles.*same pose.*job=local_refine"):
        run(homo_refine, world / "expanded.star", tmp_path / "out", volume=world / "truth.mrc")
    assert not (tmp_path / "out").exists()


def test_convert_counts_them(world: Path, tmp_path: Path) -> None:
    warnings = run(convert, world / "mixed.star", tmp_path / "out")["warnings"]
    assert "show 60 images, each 4 times" in warnings[0]


def test_a_class_is_reconstructed_alone(world: Path, tmp_path: Path) -> None:
    file = read_particles(world / "plain.star")
    file.tables["particles"]["rlnClassNumber"] = np.arange(N) // 40 + 1
    write_tables(world / "classes.star", file.tables)
    summary = run(reconstruct, world / "classes.star", tmp_path / "out", **{"class": 1})
    assert summary["particles"] == 40
    assert "class: 1" in (tmp_path / "out" / "config.yaml").read_text()
