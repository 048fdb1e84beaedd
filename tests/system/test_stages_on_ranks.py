"""ab_initio and class2d in two processes: the results of one, which end together and go on; other jobs refuse to be several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import pytest
import torch

import cryotorch
from cryotorch.data.mrc import read_volume
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings

pytestmark = pytest.mark.slow
LONGEST, SOON = 300, 30  # seconds
JOBS = {
    "ab_initio": "final_resolution=15 n_starts=2 max_particles=150",
    "class2d": "n_classes=3 iterations=4 max_resolution=14 shift_extent=10",
}
ELASTIC = ("-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "cryotorch")


def start(folder: Path, *given: str, program: tuple[str, ...] = ("-m", "cryotorch")):
    more = {"PYTHONPATH": str(Path(cryotorch.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    more |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, *program, *given],
        cwd=folder,
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ends(process: subprocess.Popen, code: int = 0, within: float = LONGEST) -> str:
    """What it said."""
    said = process.communicate(timeout=within)[0]
    assert process.returncode == code, said
    return said


def made(out: Path) -> torch.Tensor:
    """The maps or averages that a job left."""
    if (out / "map.mrc").exists():
        return read_volume(out / "map.mrc")[0]
    return torch.from_numpy(mrcfile.read(out / "classes.mrcs").copy())


def alike(one: Path, other: Path) -> bool:
    """But for the order of their sums."""
    pair = torch.stack([made(one).flatten(), made(other).flatten()])
    return float(torch.corrcoef(pair)[0, 1]) > 0.9999


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("stages")
    size = dict(box_size=32, pixel_size=4.0, n_particles=200, snr=1.0, seed=1)
    simulate.run(make_settings("simulate", out=str(folder / "set"), **size))
    for job in JOBS:
        ends(start(folder, *command(job), "out=" + job))
    return folder


def command(job: str) -> list[str]:
    return [f"job={job}", "particles=set/particles.star", *JOBS[job].split()]


@pytest.mark.parametrize("job", JOBS)
def test_two_processes(folder: Path, job: str) -> None:
    said = ends(start(folder, *command(job), "devices=2", f"out={job}_2"))
    assert said.count("The results are in") == 1 and "gloo" not in said
    assert alike(folder / f"{job}_2", folder / job)
    elastic = start(folder, *command(job), "devices=2", f"out={job}_t", program=ELASTIC)
    assert ends(elastic).count("The results are in") == 1
    assert torch.equal(made(folder / f"{job}_2"), made(folder / f"{job}_t"))


@pytest.mark.parametrize(("rank", "number", "code"), [(0, 15, 143), (1, 9, 1)])
def test_both_end_and_go_on(folder: Path, rank: int, number: int, code: int) -> None:
    """Rank 0 is told to stop, or the other one is killed, in the middle of the passes."""
    out = f"stopped_{rank}"
    process = start(folder, *command("ab_initio"), "devices=2", f"out={out}")
    end = time.monotonic() + LONGEST
    while not (folder / out / "checkpoints" / "iteration_004.ckpt").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    listed = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    other = int(subprocess.run(listed, capture_output=True, text=True).stdout.split()[0])
    os.kill((process.pid, other)[rank], signal.Signals(number))
    said = ends(process, code, SOON)
    assert said.count(f"to go on, cryotorch out={out} resume=true") == 1 and "Trace" not in said
    assert "goes on from" in ends(start(folder, f"out={out}", "resume=true"))
    assert alike(folder / out, folder / "ab_initio")


@pytest.mark.parametrize("job", ["ab_initio", "class2d"])
def test_other_processes_than_devices_mean(folder: Path, job: str) -> None:
    process = start(folder, *command(job), "out=refused", program=ELASTIC)
    said = process.communicate(timeout=LONGEST)[0]
    assert "error: torchrun has started 2 processes on a machine, but devices=1 means 1" in said
    assert not (folder / "refused").exists()


def test_a_job_of_one_process_refuses_to_be_several(folder: Path) -> None:
    given = ("job=reconstruct", "particles=set/truth.star", "out=refused")
    said = start(folder, *given, program=ELASTIC).communicate(timeout=LONGEST)[0]
    assert "error: torchrun has started 2 processes, but job=reconstruct is one" in said
    assert not (folder / "refused").exists()
