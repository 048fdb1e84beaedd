"""scripts/benchmark begin: maps and classes are scored right, junk is made as told, and both programs run on one set."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.ops.geometry.rotations import (
    euler_to_matrix,
    from_rotation_vector,
    random_rotations,
)
from cryotorch.ops.geometry.symmetry import move_volume

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS.parent))
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begin") / "data"
    settings = dict(box_size=24, pixel_size=6.0, n_particles=160, snr=4.0, shift_sigma=3.0)
    return simulate.run(make_settings("simulate", out=str(folder), **settings))


def test_a_map_of_the_other_hand_turned_and_moved(data: Path, tmp_path: Path) -> None:
    from benchmarks.score import score_fitted

    truth, size = read_volume(data / "truth.mrc")
    turn = from_rotation_vector(torch.tensor([0.9, -1.4, 0.5]).double())
    away = move_volume(flip_hand(truth), size, turn, torch.tensor([5.0, -8.0, 3.0]), 24, size)
    write_volume(tmp_path / "whole.mrc", away, size)
    write_volume(tmp_path / "coarse.mrc", low_pass(away, size, 24, "rectangular"), size)
    whole = score_fitted(tmp_path / "whole.mrc", data / "truth.mrc")
    assert whole["correlation"] > 0.97 and whole["FSC 0.5, Å"] < 14
    coarse = score_fitted(tmp_path / "coarse.mrc", data / "truth.mrc")
    assert coarse["FSC 0.5, Å"] == pytest.approx(24, rel=0.15)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    write_volume(tmp_path / "noise.mrc", low_pass(noise, size, 20), size)
    assert score_fitted(tmp_path / "noise.mrc", data / "truth.mrc")["FSC 0.5, Å"] > 30


def test_likeness_is_that_of_views_in_the_frame_of_their_class(data: Path) -> None:
    """Two views in frames that are turned by 0.7 and moved by (2, -1) from where the truth has them, in the senses of RELION."""
    from benchmarks.score import likeness

    draw, n = torch.Generator().manual_seed(1), 60
    volume, _ = read_volume(data / "truth.mrc")
    label, zero = torch.arange(n) % 2, torch.zeros(n)
    true = torch.rand(n, generator=draw) * 2 * math.pi
    rotation = euler_to_matrix(zero, zero, true) @ random_rotations(2, draw)[label]
    psi = true - 0.7
    off = (euler_to_matrix(zero, zero, psi)[:, :2, :2] @ torch.tensor([2.0, -1.0])[:, None])[..., 0]
    good = likeness(label, psi, rotation, off, volume, 8.0)
    assert good == pytest.approx(1, abs=0.01)
    assert likeness(label, -psi, rotation, off, volume, 8.0) < 0.8
    assert likeness(label, psi, rotation, off.roll(1, 0), volume, 8.0) < 0.9
    mixed = likeness(torch.zeros_like(label), psi, rotation, off, volume, 8.0)
    assert mixed < 0.98
    assert likeness(torch.arange(n), psi, rotation, off, volume, 8.0) == 0  # alone in a class


def test_classes_beside_the_truth(data: Path, tmp_path: Path) -> None:
    from benchmarks.score import score_classes

    source = read_particles(data / "truth.star")
    truth = source.particles
    label = torch.arange(160) % 2
    real = label == 0
    # three particles in the class of junk, one piece of junk among particles
    real[[1, 3, 5]], real[2] = True, False
    extra = {"rlnClassNumber": (label + 1).numpy()}
    write_particles(tmp_path / "classes.star", source, truth, extra)
    found = score_classes(tmp_path / "classes.star", truth, real, data / "truth.mrc")
    # the true angle in the plane and origin of all, whose views differ
    assert 0.5 < found["likeness in a class"] < 0.99
    assert found["particles in classes of junk, %"] == pytest.approx(100 * 3 / int(real.sum()))
    assert found["junk in classes of particles, %"] == pytest.approx(100 / int((~real).sum()))
    assert found["largest class, %"] == 50 and found["classes above 1 %"] == 2


def test_junk_among_the_particles(data: Path, tmp_path: Path) -> None:
    from benchmarks import relion
    from benchmarks.begin import find, mix

    given = find(data, "C1")
    size, edge = relion.prepare(given.particles, None, tmp_path / "images")
    assert (size, edge) == (6.0, 144.0)
    poses, real = mix(given, 0.25, tmp_path / "mixed", size)
    assert len(real) == 200 and int(real.sum()) == 160
    mixed = read_particles(tmp_path / "mixed" / "particles.star")
    source = read_particles(given.particles)
    images, before = ParticleImages(mixed), ParticleImages(source)
    truth, rotation = read_particles(data / "truth.star").particles.rotation, poses.rotation
    row = int(torch.nonzero(real)[7])
    same = int((truth - rotation[row]).flatten(1).norm(dim=1).argmin())
    assert torch.allclose(images[row], before[same], atol=1e-5)
    assert torch.equal(mixed.particles.defocus[row], source.particles.defocus[same])
    junk = images[torch.nonzero(~real)[:, 0].tolist()]
    assert 0.8 < float(junk.std()) / float(before[list(range(160))].std()) < 1.6


@pytest.mark.relion
@pytest.mark.slow
def test_begin(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from benchmarks import relion
    from benchmarks.__main__ import main

    if lacking := relion.missing([relion.PROGRAM]):
        pytest.skip(f"needs {lacking[0]}")
    options = ["--sets", data, "--seeds", 0, "--relion", 0, "--relion-passes", 2]
    options += [
        "--relion-iterations",
        2,
        1,
        1,
        "--classes",
        3,
        "--out",
        tmp_path / "out",
        "--json",
        tmp_path / "n.json",
    ]
    changes = ["n_starts=1", "minibatch_size=50", "initial_resolution=40", "final_resolution=15"]
    assert main(["begin", *map(str, options), *changes]) == 0
    tables = json.loads((tmp_path / "n.json").read_text())["tables"]
    ours, theirs = tables["First maps"]
    assert (ours["program"], theirs["program"]) == ("cryotorch", "RELION")
    assert ours["s"] > 1 and 0 < ours["processor, s"] and ours["FSC 0.5, Å"] >= 12
    sums = tables["First maps, together"]
    assert [row["runs"] for row in sums] == [1, 1]
    assert sums[0]["FSC 0.5 at 15 Å"] == (ours["reached"] == "yes")
    assert [row["program"] for row in tables["2D classes"]] == ["cryotorch", "RELION"]
    assert all(0.3 < row["likeness in a class"] < 1 for row in tables["2D classes"])
    assert "### 2D classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seeds", "--classes", "0"], "nothing to do: give --seeds"),
        (["--junk", "3"], "--junk must be between 0 and 1, got 3"),
        (["--sets", "nowhere"], "nowhere holds no particles.star with a truth.mrc"),
    ],
)
def test_mistakes_end_in_one_sentence(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch, arguments, sentence: str
) -> None:
    from benchmarks.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main(["begin", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and sentence in err and err.count("\n") == 1
