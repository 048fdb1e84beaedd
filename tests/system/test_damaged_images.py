"""A few damaged images among sound ones: they are named, and the map is that of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryotorch.data.mrc import read_volume, write_stack
from cryotorch.data.star import read_star, write_star
from cryotorch.jobs import homo_refine, reconstruct, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import crossing_shell, shell_correlation

N, BOX, PIXEL = 400, 48, 4.0
BAD = 201  # not among the images that a sample looks at
EVERY = range(7, N, 20)  # one in twenty
Y, X = np.mgrid[:BOX, :BOX] - BOX // 2


def louder(images: np.ndarray) -> list[int]:
    images[BAD] *= 1000
    return [BAD]


def hot(images: np.ndarray) -> list[int]:
    images[BAD, 20, 22] = 1000
    return [BAD]


def bead(images: np.ndarray) -> list[int]:
    images[BAD] -= 40 * np.exp(-((np.hypot(X - 2, Y + 3) / 5) ** 6))
    return [BAD]


def constant(images: np.ndarray) -> list[int]:
    images[BAD] = 5
    return [BAD]


def edges(images: np.ndarray, height: float = 15) -> list[int]:
    rng = np.random.default_rng(5)
    for i in EVERY:
        turn = rng.uniform(0, 2 * np.pi)
        images[i] += height * (X * np.cos(turn) + Y * np.sin(turn) > rng.uniform(-8, 8))
    return list(EVERY)


def low_edges(images: np.ndarray) -> list[int]:
    """No pixel is an outlier."""
    return edges(images, 6)


def ramps(images: np.ndarray) -> list[int]:
    rng = np.random.default_rng(5)
    for i in EVERY:
        images[i] += X * rng.uniform(0.3, 1) + Y * rng.uniform(0.3, 1)
    return list(EVERY)


DAMAGE = [louder, hot, bead, constant, edges, low_edges, ramps]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "set"
    few = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=0.1, seed=31)
    simulate.run(make_settings("simulate", out=str(folder), **few))
    return folder


def damaged(world: Path, folder: Path, spoil: Callable | None) -> tuple[list[int], Path]:
    """Rows of the images that ``spoil`` spoiled, and a folder with them."""
    images = mrcfile.read(world / "particles.mrcs").copy()
    rows = spoil(images) if spoil else []
    write_stack(folder / "spoiled.mrcs", [images], N, BOX, PIXEL)
    for name in ("truth", "particles"):
        tables = read_star(world / f"{name}.star")
        tables["particles"]["rlnImageName"] = [f"{i + 1}@spoiled.mrcs" for i in range(N)]
        write_star(folder / f"{name}.star", tables)
    return rows, folder


def shell(world: Path, out: Path) -> float:
    """Where the FSC of a map with the truth falls below 0.5."""
    found, truth = (read_volume(p)[0] for p in (out / "map.mrc", world / "truth.mrc"))
    mask = soft_sphere(BOX, 15, 4)
    return float(crossing_shell(shell_correlation(found * mask, truth * mask), 0.5, True))


def judge(world: Path, out: Path, rows: list[int], clean: float) -> None:
    assert shell(world, out) > clean - 0.5
    summary = json.loads((out / "summary.json").read_text())
    named = {int(name.split("@")[0]) - 1 for name in summary["damaged_images"]}
    assert named == set(rows)


def rebuild(folder: Path) -> Path:
    out = folder / "map"
    particles = str(folder / "truth.star")
    reconstruct.run(make_settings("reconstruct", particles=particles, out=str(out)))
    return out


def refine(world: Path, folder: Path) -> Path:
    out = folder / "refined"
    files = dict(particles=str(folder / "particles.star"), volume=str(world / "initial.mrc"))
    settings = make_settings("homo_refine", out=str(out), trainer__accelerator="cpu", **files)
    homo_refine.run(settings)
    return out


@pytest.fixture(scope="module")
def clean(world: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    _, folder = damaged(world, tmp_path_factory.mktemp("clean"), None)
    out = rebuild(folder)
    judge(world, out, [], 0)
    return shell(world, out)


@pytest.mark.parametrize("spoil", [louder, hot, constant, low_edges])
def test_reconstructed(world: Path, clean: float, tmp_path: Path, spoil: Callable, capsys) -> None:
    rows, folder = damaged(world, tmp_path, spoil)

    judge(world, rebuild(folder), rows, clean)
    said = "".join(capsys.readouterr())
    assert f"{len(rows)} of {N} images look" in said
    assert f"{rows[0] + 1}@" in said


@pytest.fixture(scope="module")
def of_the_others(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """How far the map of the sound images goes, with one or one in twenty left out."""
    found = {}
    for rows in ([BAD], list(EVERY)):
        _, folder = damaged(world, tmp_path_factory.mktemp("clean"), None)
        tables = read_star(folder / "particles.star")
        kept = np.setdiff1d(np.arange(N), rows)
        tables["particles"] = tables["particles"].taken(kept)
        write_star(folder / "particles.star", tables)
        out = refine(world, folder)
        judge(world, out, [], 0)
        found[len(rows)] = shell(world, out)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("spoil", DAMAGE)
def test_refined(
    world: Path, of_the_others: dict[int, float], tmp_path: Path, spoil: Callable
) -> None:
    rows, folder = damaged(world, tmp_path, spoil)
    out = refine(world, folder)
    judge(world, out, rows, of_the_others[len(rows)])
    factor = read_star(out / "particles.star")["particles"].floats("cryotorchNoiseFactor", out)
    sound = np.delete(np.asarray(factor), rows)
    assert np.median(sound) == pytest.approx(1, abs=0.1) and sound.max() < 1.5


def test_strong_particles_look_sound(tmp_path: Path) -> None:
    """At ten times the signal of a good micrograph, neither pixels nor images are taken for damaged."""
    out = tmp_path / "set"
    few = dict(box_size=BOX, pixel_size=PIXEL, n_particles=200, snr=10.0, seed=3)
    simulate.run(make_settings("simulate", out=str(out), **few))
    settings = make_settings("reconstruct", particles=str(out / "truth.star"), out=str(out / "map"))
    reconstruct.run(settings)
    summary = json.loads((out / "map" / "summary.json").read_text())
    assert summary["damaged_images"] == {}
