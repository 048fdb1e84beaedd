"""scripts/benchmark: its numbers belong together, and its scores are right."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import write_volume
from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.fourier.slices import (
    GPU_POINTS,
    accumulator,
    add_slices_,
    extract_slices,
    projector,
)
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import from_rotation_vector, random_rotations
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.pose.scores import Observation, gram_of_tensors, templates
from cryotorch.refinement.settings import (
    EMSettings,
    MaskSettings,
    ScheduleSettings,
    SearchSettings,
)

SCRIPTS = Path(__file__).parents[1] / "scripts"
MODEL = ("--particles", "a.star", "--volume", "a.mrc")


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "data"
    settings = dict(
        box_size=24,
        pixel_size=4.0,
        n_particles=80,
        snr=2.0,
        initial_resolution=16.0,
        symmetry="C2",
    )
    return simulate.run(make_settings("simulate", out=str(folder), **settings))


def test_race_takes_turns_and_drops_the_first_round() -> None:
    from benchmarks.timing import race

    order: list[str] = []
    first, second = race([lambda: order.append("a"), lambda: order.append("b")], "cpu", seconds=0)
    assert order == ["a", "b"] * 4 and first.repeats == second.repeats == 3


def test_best_and_median(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import timing

    clock, naps = [0.0], iter([9.0, 4.0, 2.0, 3.0, 8.0])

    def work() -> None:
        clock[0] += next(naps)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    spent = timing.measure(work, "cpu", seconds=20)
    assert (spent.best, spent.median, spent.repeats) == (2, 3.5, 4)
    assert spent.rates("images", 14) == {"images/s": 7, "images/s median": 4}


def test_numbers_are_short() -> None:
    from benchmarks.table import markdown, shown

    values = [387_123_456.0, 9_990.0, 12_345.0, 999_950_000.0, 0.8849, 12.34, 0.0211, 64, None]
    texts = ["387 M", "9990", "12.3 k", "1 G", "0.885", "12.3", "0.0211", "64", "-"]
    assert [shown(v) for v in values] == texts
    table = markdown("Title", [{"name": "a", "rate": 2.0}, {"name": "long", "rate": 12_345.0}])
    lines = [
        "### Title",
        "",
        "| name |   rate |",
        "| ---- | -----: |",
        "| a    |      2 |",
        "| long | 12.3 k |",
    ]
    assert table.splitlines() == lines


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_kernels(device: str) -> None:
    from benchmarks.kernels import Effort, run

    effort = Effort(images=4, points=1 << 12, square=64, seconds=0)
    with torch.no_grad():
        tables = run([16], [device], effort)
    (coarse,) = tables[
        "Coarse search"
    ]  # 12 Fourier pixels are beyond the Nyquist frequency of this box
    b, t, r = map(int, coarse["images x shifts x rotations"].split(" x "))
    assert (coarse["limit"], b, t) == (6, 4, 13)  # step 1, within 2 pixels
    step = 1 / 6
    assert r == round(4 * math.pi / step**2) * 2 * round(math.pi / step)
    assert coarse["poses/s"] == pytest.approx(coarse["images/s"] * t * r)
    m = 56  # of the 112 Fourier pixels with 0 < |k| <= 6, one of each pair
    assert coarse["operations/s"] == pytest.approx(coarse["poses/s"] * (2 * m + m / t))
    assert 0 < coarse["of a matmul this shape"] < 3
    assert coarse["float32's best among 8"] == 1
    for row in tables["Slices and poses"]:
        assert row["points/s"] == pytest.approx(row["points"] * row["slices/s"])
        assert row["slices/s"] >= row["slices/s median"] > 0
        assert row["times tensor operations"] > 0 and row["of a copy of the bytes"] > 0
    limits = [(row["kernel"], row["limit"]) for row in tables["Slices and poses"]]
    names = ("climb", "extract", "insert", "pose_terms")
    assert limits == [(k, limit) for k in names for limit in (4, 7)]
    assert [row["candidates"] for row in tables["Polish"]] == [25, 25]
    (step_row,) = tables["M-step, per half map"]
    assert step_row["both, s"] == pytest.approx(step_row["collect, s"] + step_row["solve, s"])
    assert all(row["peak so far, MiB"] > 0 for row in tables["Memory"])


def test_io(tmp_path: Path) -> None:
    from benchmarks.io import run

    tables = run([16], tmp_path, megabytes=1, seconds=0)
    rows = tables["Reading particles"]
    cases = [(row["from"], row["file is"], row["order"]) for row in rows]
    orders = [("warm", "file"), ("warm", "half sets"), ("cold", "file")]
    sources = ("stack", "cache, float32", "cache, float16")
    assert cases == [(source, *order) for source in sources for order in orders]
    n, header = 1024, 20480  # of a cache: 1024 bytes and 16 for each image, in whole pages
    size = dict(zip(sources, (1024 + n * 4 * 256, header + n * 4 * 256, header + n * 2 * 256)))
    for row in rows:
        assert row["bytes/s"] / row["images/s"] == pytest.approx(size[row["from"]] / n)
        assert row["of the plain rate"] == pytest.approx(row["bytes/s"] / row["plain bytes/s"])
        assert row["of the plain rate"] > 0
    assert [row["type"] for row in tables["Making the cache"]] == ["float32", "float16"]
    assert not list(tmp_path.iterdir())


def test_scores(data: Path, tmp_path: Path) -> None:
    from benchmarks.score import score_map, score_poses

    truth = read_particles(data / "truth.star")
    particles = truth.particles
    turn = from_rotation_vector(torch.tensor([0.0, 0.0, math.radians(2)]))
    rotation = turn @ particles.rotation @ point_group("C2")[1].float()
    moved = particles.replace(rotation=rotation, shift=particles.shift + torch.tensor([3.0, 4.0]))
    write_particles(tmp_path / "off.star", truth, moved)
    score = score_poses(tmp_path / "off.star", data / "truth.star", "C2")
    assert score == {"rotation": pytest.approx(2, abs=0.01), "shift": pytest.approx(5, abs=0.01)}
    assert score_poses(tmp_path / "off.star", data / "truth.star", "C1")["rotation"] > 50

    # a low-passed truth, with noise beyond: the FSC falls from 1 to 0 where that begins
    from cryotorch.data.mrc import read_volume
    from cryotorch.ops.fourier.filters import low_pass

    volume, pixel_size = read_volume(data / "truth.mrc")
    noise = (
        torch.randn(volume.shape, generator=torch.Generator().manual_seed(0)) * 10 * volume.std()
    )
    kept = low_pass(volume, pixel_size, 16, "rectangular")
    mixed = kept + noise - low_pass(noise, pixel_size, 16, "rectangular")
    write_volume(tmp_path / "map.mrc", mixed, pixel_size)
    assert score_map(tmp_path / "map.mrc", data / "truth.mrc")["sphere"] == pytest.approx(
        16, abs=2.5
    )
    assert score_map(data / "truth.mrc", data / "truth.mrc") == {"sphere": 8.0, "tight": 8.0}


def test_errors_beside_the_truth(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poses off by known Gaussians, in a frame that is turned and moved; a map of the truth up to shell 8 of 12."""
    from benchmarks import claims, refinement

    from cryotorch.data.mrc import read_volume
    from cryotorch.ops.fourier.filters import low_pass

    truth, draw = read_particles(data / "truth.star"), torch.Generator().manual_seed(2)
    sigma, off = (0.02, 0.5), torch.tensor([0.01, -0.02, 0.03])
    turn = from_rotation_vector(sigma[0] * torch.randn(80, 3, generator=draw))
    rotation = truth.particles.rotation @ from_rotation_vector(off) @ turn
    shift = truth.particles.shift + rotation[:, :2] @ torch.tensor([2.0, -1.0, 3.0])
    moved = truth.particles.replace(
        rotation=rotation,
        shift=shift + sigma[1] * torch.randn(80, 2, generator=draw),
        pose_sigma=torch.tensor([[0.8 * sigma[0], 1.2 * sigma[1]]]).expand(80, 2),
    )
    volume, pixel_size = read_volume(data / "truth.mrc")
    noise = 10 * volume.std() * torch.randn(volume.shape, generator=draw)
    noise -= low_pass(noise, pixel_size, 96 / 8, "rectangular")

    def refine(given: refinement.Data, out: Path, changes: list[str]) -> refinement.Run:
        assert changes == ["seed=4"]
        out.mkdir()
        write_particles(out / "particles.star", truth, moved)
        write_volume(out / "map.mrc", volume + noise, pixel_size)
        write_volume(out / "mask_fsc.mrc", torch.ones_like(volume), pixel_size)
        known = dict(box=24, pixel_size=4.0, resolution=96 / 7, iterations=3)
        (out / "summary.json").write_text(json.dumps(known))
        return refinement.Run(1.0, 1.0)

    monkeypatch.setattr(refinement, "refine", refine)
    names = ("particles.star", "initial.mrc", "truth.mrc", "truth.star")
    given = refinement.Data(*(data / name for name in names))
    row = claims.against_truth("x", given, tmp_path / "out", ["seed=4"])
    assert (row["shell claimed"], row["shell true"]) == (7, pytest.approx(8, abs=1))
    assert row["rotation, reported / true"] == pytest.approx(0.8, rel=0.2)
    assert row["shift, reported / true"] == pytest.approx(1.2, rel=0.2)
    assert row["shift, true, Å"] == pytest.approx(sigma[1], rel=0.2)


def test_noise_maps(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.__main__ import main

    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    assert (
        main(["claims", "--sets", "--snr", "--noise", "0", "--band", "C1", "--band-box", "16"]) == 0
    )
    printed = capsys.readouterr().out
    assert "### FSC of noise maps" in printed and printed.count("| C1 ") == 4


def test_refine(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from benchmarks.__main__ import main

    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS.parent))
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")  # main() would leave it behind
    options = ["--particles", data / "particles.star", "--volume", data / "initial.mrc"]
    options += ["--truth-map", data / "truth.mrc", "--truth-star", data / "truth.star"]
    options += ["--symmetry", "C2", "--out", tmp_path / "out", "--json", tmp_path / "numbers.json"]
    changes = ["trainer=cpu", "max_iterations=1", "initial_resolution=16", "split_resolution=40"]
    start = time.perf_counter()
    assert main(["refine", *map(str, options), *changes]) == 0
    limit = time.perf_counter() - start
    found = json.loads((tmp_path / "numbers.json").read_text())
    summary = json.loads((tmp_path / "out" / "run_1" / "summary.json").read_text())
    result = {row["quantity"]: row["value"] for row in found["tables"]["Refinement"]}
    assert result["particles x pixels"] == "80 x 24" and result["iterations"] == 1
    assert result["claimed resolution, Å (corrected, 0.143)"] == summary["resolution"]
    wall = result["process wall time, s, best"]
    assert 1 < wall < limit and wall == result["process wall time, s, median"]
    assert summary["peak_memory_mib"]["host"] <= result["peak resident memory, MiB"] + 1
    assert 8 <= result["against truth, Å (tight mask, 0.5)"] < 14
    assert result["median rotation error, degrees"] < 5
    assert result["median shift error, Å"] < 2
    phases = found["tables"]["Phases, all iterations"]
    assert sum(row["of the run"] for row in phases) == pytest.approx(1, abs=0.01)
    coarse = next(row for row in phases if row["phase"] == "coarse")
    assert coarse["particles/s"] == pytest.approx(80 / coarse["seconds"])
    printed = capsys.readouterr().out
    assert "### Refinement" in printed and "* threads:" in printed


def test_real(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """On a simulated set as if its truth were a model of real particles."""
    from benchmarks.__main__ import main

    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS.parent))
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    options = ["--particles", data / "particles.star", "--volume", data / "truth.mrc"]
    options += ["--symmetry", "C2", "--radius", 36, "--shells", 2, 5, 6, 9, "--simulated"]
    options += ["--seeds", 3, "--box", 20, "none", "--initial", 16, "--out", tmp_path / "out"]
    options += ["--json", tmp_path / "numbers.json"]
    changes = ["trainer=cpu", "max_iterations=1", "split_resolution=40"]
    assert main(["real", *map(str, options), *changes]) == 0
    tables = json.loads((tmp_path / "numbers.json").read_text())["tables"]
    small, full = tables["Real particles"]
    assert (small["box"], full["box"]) == (20, 24)
    for row in (small, full):
        assert row["seed"] == 3 and row["initial, Å"] == 16 and row["iterations"] == 1
        assert row["shells finer on the way"] == 0 and row["seconds"] > 1
        assert 0.9 < row["shells 2-5"] <= 1 and 0.6 < row["shells 6-9"] < row["shells 2-5"]
        assert row["shells claimed"] == str(round(96 / row["claim, Å"]))
        assert row["FSC 0.5, Å"] < 14
    worst = {row["quantity"]: row["value"] for row in tables["Worst of these runs"]}
    assert worst["shells 6-9, lowest"] == min(small["shells 6-9"], full["shells 6-9"])
    bold = max(row["FSC 0.5, Å"] / row["claim, Å"] for row in (small, full))
    assert worst["claim finer than FSC 0.5 by the factor, largest"] == pytest.approx(bold)
    assert set(tables) == {"Real particles", "Worst of these runs"}
    assert "### Real particles" in capsys.readouterr().out


def test_claims_on_the_way() -> None:
    """Shells by which an iteration from the third on claims more than the last, and where nothing is claimed."""
    from benchmarks.real import finer, shell

    assert finer([30, 31, 12, 17, 14, 14]) == 3
    assert finer([30, 31, 12, 14]) == 0 and finer([30, 31]) == 0 and finer([5, 5, 9, 0]) == 9
    assert shell(192, 8.0) == 24 and shell(192, None) == 0


@pytest.mark.relion
@pytest.mark.slow
def test_real_beside_relion(data: Path, tmp_path: Path) -> None:
    """RELION reads what is prepared for it and refines it; its figures come the same way."""
    from benchmarks import relion
    from benchmarks.real import Judge, Plan
    from benchmarks.refinement import Data

    if lacking := relion.missing():
        pytest.skip(f"needs {' and '.join(lacking)}")
    truth = data / "truth.mrc"
    given = Data(data / "particles.star", truth, truth, None, "C2")
    (row,) = relion.run(given, Plan([20], [16.0], [1]), Judge(36.0, [2, 5]), tmp_path)
    assert row["box"] == 20 and row["iterations"] > 3
    assert row["shells 2-5"] > 0.9 and 9.6 <= row["claim, Å"] < 20
    assert row["FSC 0.5, Å"] < 16


def test_a_failed_job_is_told(tmp_path: Path) -> None:
    from benchmarks.refinement import JobFailed, finish

    command = [sys.executable, "-c", "import sys; sys.exit('error: no such thing')"]
    with pytest.raises(JobFailed, match=r"(?s)ended with code 1.*no such thing"):
        finish(command, tmp_path / "log")
    run = finish([sys.executable, "-c", "import time; time.sleep(0.2)"], tmp_path / "log")
    assert 0.2 <= run.seconds < 10 and run.memory > 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["refine", "--particles", "a.star"], "--particles and --volume belong together"),
        (["refine", "--runs", "0"], "--runs must be at least 1, got 0"),
        (["real", "--particles", "a.star"], "name both --particles and --volume"),
        (["real", *MODEL, "--shells", "3"], "--shells are pairs, first and last, got 1 numbers"),
        (["real", *MODEL, "--box", "all"], "--box is a number of pixels or none, got all"),
        (["large", "--device", "cpu", "volume=a.mrc"], "volume has no place here"),
        (["large", "--device", "cpu", "candidates=4"], "homo_refine has no parameter candidates"),
        (
            ["large", "--device", "cpu", "--n-particles", "10000000", "--box", "512"],
            "the images take 10486 GB",
        ),
    ],
)
def test_mistakes_end_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments, sentence: str
) -> None:
    from benchmarks.__main__ import main

    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {sentence}") and err.count("\n") == 1


def test_made_images_are_those_of_job_simulate() -> None:
    from benchmarks.ribosome import MadeImages, white_noise

    from cryotorch.jobs.simulation.particles import signal_spectra
    from cryotorch.ops.fourier.slices import projector
    from cryotorch.ops.fourier.transforms import unpack
    from cryotorch.ops.models.phantom import phantom

    sizes = dict(box_size=24, pixel_size=4.0, n_particles=60, snr=0.2, seed=3)
    volume = phantom(24, 4.0, point_group("C1"))
    images = MadeImages(volume, make_settings("simulate", **sizes))
    every = images[list(range(60))]
    some = images[[41, 7]]
    assert torch.allclose(some, every[[41, 7]], atol=1e-5)
    rows = torch.arange(60)
    noise = white_noise(rows, 24, 3)
    signal = every - noise
    expected = unpack(signal_spectra(projector(images.volume), images.truth, rows), 24)
    assert torch.allclose(signal, expected, atol=1e-4)
    assert float(signal.square().mean()) == pytest.approx(0.2, rel=1e-3)
    assert not images.particles.has_pose
    assert torch.equal(images.particles.defocus, images.truth.defocus)


def test_white_noise() -> None:
    from benchmarks.ribosome import white_noise

    rows = torch.arange(60)
    noise = white_noise(rows, 64, 3)
    error = noise.numel() ** -0.5
    moments = [float(noise.pow(n).mean()) for n in (1, 2, 3, 4)]
    for moment, known, spread in zip(moments, (0, 1, 0, 3), (1, 2, 15, 96), strict=True):
        assert abs(moment - known) < 4 * spread**0.5 * error
    other = white_noise(rows, 64, 4)  # another seed
    pairs = [(noise[1:], noise[:-1]), (noise[..., 1:], noise[..., :-1]), (noise, other)]
    pairs += [(noise[:, 1:], noise[:, :-1]), (noise[1:], other[:-1])]
    for a, b in pairs:
        assert abs(float((a * b).mean())) < 5 * error
    assert torch.equal(white_noise(rows[[9, 2]], 64, 3), noise[[9, 2]])


def test_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from benchmarks import large
    from benchmarks.__main__ import main
    from benchmarks.score import pose_errors

    outcomes = []

    def refined(*settings):
        outcomes.append(whole(*settings))
        return outcomes[0]

    whole = large.refined
    monkeypatch.setattr(large, "refined", refined)
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    options = "--n-particles 300 --box 32 --pixel-size 4 --snr 0.3 --seed 1 --device cpu".split()
    numbers = tmp_path / "numbers.json"
    changes = ["max_iterations=3", "minibatch_size=50", "search.candidates=4"]
    assert main(["large", *options, "--json", str(numbers), *changes]) == 0
    tables = json.loads(numbers.read_text())["tables"]
    (outcome,) = outcomes
    state, truth = outcome.module.state, outcome.images.truth
    assert outcome.module.settings.search.candidates == 4
    # the poses of the first iteration are those against the initial map
    first = truth.replace(rotation=state.anchor_rotation, shift=state.anchor_shift)
    before = pose_errors(first, truth.rotation, truth.shift, "C1")
    result = {row["quantity"]: row["value"] for row in tables["Result, cpu"]}
    assert result["median rotation error, degrees"] < 0.8 * before["rotation"]
    assert result["median shift error, Å"] < 0.8 * before["shift"]
    assert result["particles x pixels"] == "300 x 32" and result["SNR"] == 0.3
    assert 8 <= result["against truth, Å (sphere, 0.5)"] < 15
    assert result["iterations"] == 3 and result["claimed resolution, Å (corrected, 0.143)"] < 15

    seconds = {row["phase"]: row["seconds"] for row in tables["Phases, cpu"]}
    names = list(seconds)
    compute = seconds["compute: all of these"]
    end = names.index("compute: all of these")
    assert "not counted" in names[0] and names[1].startswith("start")
    assert {"templates", "transform", "coarse", "polish", "insert", "solve", "fsc"} < {
        *names[1:end]
    }
    assert sum(seconds[name] for name in names[1:end]) == pytest.approx(compute)
    assert seconds["rest: trainer, maps to the host"] > 0
    shares = [row["of the compute"] for row in tables["Phases, cpu"]]
    assert shares[0] is None and sum(shares[1:end]) == pytest.approx(1)
    assert "goal" not in names  # that is for the set of CUDA devices

    rows = tables["Iterations, cpu"]
    assert [row["particles"] for row in rows] == [300] * 3
    assert rows[0]["limit, Å"] == pytest.approx(30)
    assert sum(row["seconds"] for row in rows) < compute
    history = [row["seconds"] for row in state.history]
    assert all(row["seconds"] >= spent for row, spent in zip(rows, history, strict=True))
    assert "### Iterations, cpu" in capsys.readouterr().out


def test_large_is_foretold_from_small_runs() -> None:
    """By runs whose images cost the same in any number: 8 ms of search, 2 of polish, and 3 s for the maps."""
    from benchmarks.large_scaled import _at_full_size, _foretold, _rates

    def ran(n: int) -> SimpleNamespace:
        phases = {"transform": 1e-3, "coarse": 8e-3, "polish": 2e-3, "insert": 4e-3}
        row = {f"seconds_{name}": each * n for name, each in phases.items()}
        row |= {"seconds_templates": 0.5, "seconds_solve": 2.0, "seconds_fsc": 1.0}
        seconds = sum(row.values()) + 0.25
        row |= {"particles": float(n), "limit": 6.0}
        plan = ScheduleSettings(16.0, 32.0)
        parts = SearchSettings(), plan, MaskSettings()
        settings = EMSettings(64, 1.5, torch.eye(3)[None], *parts, 0.0, (32.0, 32.0))
        state = SimpleNamespace(
            history=[row] * 2, convergence=SimpleNamespace(max_shells=[16.0] * 2)
        )
        images = type("Images", (), {"box": 64, "pixel_size": 1.5, "__len__": lambda _: n})()
        module = SimpleNamespace(state=state, settings=settings)
        return SimpleNamespace(
            images=images, module=module, watch=SimpleNamespace(seconds=[seconds] * 2)
        )

    small, larger = ran(100), ran(300)
    assert [row["foretold / measured"] for row in _foretold(small, larger)] == pytest.approx([1, 1])
    assert _foretold(larger, small)[1]["foretold"] == pytest.approx(1.5 + 3.75)
    full = _at_full_size(small, 1, 100_000)
    assert full["s"] == pytest.approx(1500 + 3.75) and full["limit, Å"] == 6
    (rates, _) = _rates(larger)
    assert rates["coarse search, /s"] == pytest.approx(125) and rates["M-step, s"] == 3
    assert rates["all of these, /s"] == pytest.approx(1 / 0.015)
    assert rates["rest, s"] == pytest.approx(0.25)


def test_bytes_moved_are_those_of_the_sums() -> None:
    from benchmarks.scale import moved

    from cryotorch.ops.fourier.slices import accumulator

    box, n = 24, 50
    found = moved(box, n)
    assert found.grids == sum(accumulator(box).sums[0].nbytes for _ in range(2))
    # 9 + 2 + 2 + 3 numbers of each particle, noise and counts of one optics group
    assert found.rows == 4 * n * 16 + 8 * 2 * (13 + 1)
    assert found.maps == 12 * torch.zeros(box, box, box).nbytes


def test_the_model_of_several_processes() -> None:
    from benchmarks.scale import LEFT, Moved, Parts

    moved = Moved(grids=4e6, rows=1e6, maps=3e6)
    parts = Parts(e_step=20.0, templates=2.0, m_step=1.0, batches=(10, 10), moved=moved)
    two, more = LEFT[2], LEFT[4]
    assert parts.seconds(1, rate=1) == 20 + 2 + 1
    assert parts.seconds(2) == 10 + 1 + two  # a half set each
    # to where the other half set is, poses, maps
    assert parts.seconds(2, rate=1e6) == pytest.approx(11 + two + 2 + 1 + 3)
    assert parts.seconds(3) == 7 + 2 + two  # seven batches, of both half sets on the second rank
    assert parts.seconds(4) == 5 + 1 + more
    assert parts.seconds(64) == 1 + 1 + more  # no less than a batch
    # five levels from 32 processes to one
    expected = 2 + more + 2 * (5 + 1) + 2 * 63 / 64 + 3
    assert parts.seconds(64, rate=1e6) == pytest.approx(expected)


def test_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of two made-up runs, the second twice as fast but for its M-step."""
    from benchmarks import scale

    volume = torch.randn(8, 8, 8)

    def refine(data, out: Path, changes: list[str]) -> None:
        n = next(int(c.split("=")[1]) for c in changes if c.startswith("trainer.devices"))
        assert ("trainer=ddp" in changes) == (n > 1) and "max_iterations=2" in changes
        out.mkdir()
        phases = {"coarse": 6 / n, "polish": 2 / n, "templates": 1 / n, "solve": 0.5, "reduce": 0.1}
        row = {f"seconds_{name}": spent for name, spent in phases.items()}
        row |= {"seconds": sum(phases.values())}
        first = {name: 9 * spent for name, spent in row.items()}  # what a process does once
        known = dict(iterations=2, resolution=7.0, box=8, particles=80, half_sets=[40, 40])
        summary = known | dict(minibatch_size=10, history=[first, row])
        (out / "summary.json").write_text(json.dumps(summary))
        write_volume(out / "map.mrc", volume, 1.0)

    monkeypatch.setattr(scale, "refine", refine)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tables = scale.run(None, tmp_path, ["max_iterations=2"], [2], "cpu")
    one, two = tables["Processes"]
    assert one["s/iteration"] == pytest.approx(9.6) and two["s/iteration"] == pytest.approx(5.1)
    assert two["efficiency"] == pytest.approx(9.6 / 5.1 / 2)
    assert two["map correlation with one process"] == pytest.approx(1)
    models = {row["processes"]: row for row in tables["Model"]}
    assert list(models) == [1, 2, 8, 64]
    predicted = 4 + 0.5 + 0.5 * scale.LEFT[2]
    assert models[2]["predicted s/iteration"] == pytest.approx(predicted)
    assert models[2]["measured / predicted"] == pytest.approx(5.1 / predicted)
    assert models[64]["predicted s/iteration"] == pytest.approx(1 + 0.5 + 0.5 * scale.LEFT[4])
    assert models[8]["measured s/iteration"] is None


def test_load(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of the images in one and in many stacks; times per image without what a map costs once."""
    from benchmarks import load, refinement

    seen: dict[tuple[int, int], float] = {}

    def refine(given: refinement.Data, out: Path, changes: list[str]) -> refinement.Run:
        file = read_particles(given.particles)
        n, stacks = len(file.particles.rotation), len(file.stacks)
        seen[n, stacks] = float(ParticleImages(file)[[n - 1]].std())
        out.mkdir()
        row = dict(seconds=1 + n * stacks / 1000, seconds_solve=0.7, seconds_fsc=0.3)
        (out / "summary.json").write_text(json.dumps(dict(history=[row])))
        return refinement.Run(9.0, 7000.0 if n == 90 else 500.0)

    def make(command: list[str], log: Path) -> None:
        assert command[1:3] == ["-m", "benchmarks.load"]
        load.copies(Path(command[3]), Path(command[4]), int(command[5]), int(command[6]))

    monkeypatch.setattr(load, "finish", make)
    monkeypatch.setattr(
        load, "simulated", lambda *_: refinement.Data(data / "particles.star", data)
    )
    monkeypatch.setattr(load, "refine", refine)
    monkeypatch.setattr(load, "FEW", 50)
    rows = load.run(tmp_path, 90, 200, 3, [])["Load, one iteration"]
    assert [(row["images"], row["stacks"]) for row in rows] == [*seen]
    assert [*seen] == [(50, 1), (200, 1), (21, 1), (21, 3), (90, 1)]
    assert min(seen.values()) > 0.1 and seen[21, 1] == pytest.approx(seen[21, 3], rel=1e-6)
    assert len({round(value, 6) for value in seen.values()}) == 4
    assert [row["E-step, ms/image"] for row in rows] == pytest.approx([1, 1, 1, 3, 1])
    assert [row["of the time beside"] for row in rows] == [
        None,
        pytest.approx(1),
        None,
        pytest.approx(3),
        None,
    ]
    assert [row["met"] for row in rows] == [None, True, None, False, False]
    assert not list(tmp_path.rglob("*.mrcs"))


def test_reckoned_memory_is_that_of_the_tensors(pretended_cuda: Callable) -> None:
    """What is counted by shape, of tensors that are made on a pretended device; at 360 pixels the rims weigh less."""
    from benchmarks import device_memory as reckoned

    box, poses = 48, 40
    plane = half_plane(box)
    count = plane.count(box / 2)
    assert reckoned.points(box) <= GPU_POINTS and reckoned.points(360) > 0.9 * GPU_POINTS
    with pretended_cuda(watch_memory=True) as seen, torch.no_grad():
        volume = torch.randn(box, box, box).to("cuda")

        def peak(work: Callable) -> tuple[int, object]:
            before = seen.memory.now
            seen.memory.peak = 0
            made = work()
            return seen.memory.peak - before, made

        making, table = peak(lambda: projector(volume))
        assert making == pytest.approx(reckoned.making_reference(box), rel=0.03)
        assert table.table.nbytes == reckoned.table(box)
        into = accumulator(box, device="cuda")
        assert 2 * into.sums.nbytes == reckoned.sums(box)
        rotation = random_rotations(poses).to("cuda")
        plane = half_plane(box, "cuda")
        spectrum = torch.zeros(poses, count, dtype=torch.complex64, device="cuda")
        weight = torch.ones(poses, count, device="cuda")
        images = Observation(spectrum, weight, weight, box)
        at = torch.arange(poses, device="cuda"), rotation, torch.zeros(poses, 2, device="cuda")
        slices = spectrum, weight, rotation, plane.frequency
        works = {
            "evaluating poses": lambda: gram_of_tensors(table, images, *at),
            "slices": lambda: extract_slices(table, rotation, plane.frequency),
            "insertion": lambda: add_slices_(into, *slices),
        }
        for name, work in works.items():
            per_point = peak(work)[0] / (poses * count)
            assert per_point == pytest.approx(reckoned.PER_POINT[name], rel=0.02), name
        low = extract_slices(table, rotation, plane.frequency[: plane.count(12)])
        made = peak(lambda: templates(low, rotation, torch.bfloat16))[1]
        size = sum(t.nbytes for t in (made.rotation, made.real, made.imaginary, made.norm))
        assert size == poses * (6 * plane.count(12) + 72)


def test_memory_of_a_device() -> None:
    from benchmarks.device_memory import run

    parts, peaks = run().values()
    assert {row["part"]: row["GB"] for row in parts}["images that stay"] == 51.84
    assert all(0 < row["of the device"] < 0.6 for row in peaks)
    small = next(iter(run(memory=22.0).values()))
    assert small[0]["GB"] == 0  # they are read again in every iteration


@pytest.mark.slow
def test_m_step_on_one_and_two_processes() -> None:
    """Small, so that nothing is said of speed: all rows are there, and times are those of work."""
    from benchmarks import m_step

    rows = m_step.run([24], ["C1"], [2], 1)["M-step"]
    assert [row["processes"] for row in rows] == [1, 2]
    assert rows[0]["of one"] == rows[0]["of one's"] == 1
    for row in rows:
        assert 0 < row["longest way, s of CPU"] < 60 and 0 < row["M-step, s"] < 60
        assert row["reduce, s"] < 60 and 50 < row["resident, MiB"] < 5000
