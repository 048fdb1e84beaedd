"""Ranks that srun or torchrun starts: one run, which ends together and goes on. There is no SLURM here, only its environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cryotorch
from cryotorch.data.mrc import read_volume
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings

pytestmark = pytest.mark.slow
LONGEST, SOON = 240, 30  # seconds
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
GIVEN = ("job=homo_refine", "particles=set/particles.star", "volume=set/initial.mrc")
QUICK = ("search.grid_step=15", "search.candidates=4", "minibatch_size=16", "max_iterations=4")
# What a process in a batch script finds, started by srun or not.
BATCH = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
BATCH |= {"SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "localhost", "SLURM_NODELIST": "localhost"}
BATCH |= {"SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STOPS = Path(__file__).with_name("stops_at.py")
ELASTIC = ("-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "cryotorch")


def start(folder: Path, program: tuple[str, ...], *given: str, **more: str) -> subprocess.Popen:
    path = {"PYTHONPATH": str(Path(cryotorch.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, *program, *given],
        cwd=folder,
        env={**os.environ, **path, **threads, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def task(folder: Path, number: str, port: str, *given: str, stops: str = "") -> subprocess.Popen:
    """One of those; ``stops`` is where a rank of them waits, see stops_at.py."""
    mine = {"SLURM_STEP_ID": "0", "SLURM_PROCID": number, "SLURM_LOCALID": number}
    program = (str(STOPS),) if stops else ("-m", "cryotorch")
    more = {**BATCH, **mine, "MASTER_PORT": port, "STOPS_AT": stops}
    return start(folder, program, *given, **more)


def srun(folder: Path, *given: str, stops: str = "") -> list[subprocess.Popen]:
    """Two processes with the environment that srun gives."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    return [task(folder, number, port, *given, stops=stops) for number in "01"]


def ends(processes: list[subprocess.Popen], within: float = LONGEST) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    end = time.monotonic() + within
    try:
        said = [p.communicate(timeout=max(end - time.monotonic(), 0.1)) for p in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *both) for p, both in zip(processes, said, strict=True)]


def iterating(out: Path, processes: list[subprocess.Popen]) -> None:
    """Wait for the first iteration to end."""
    end = time.monotonic() + LONGEST
    while not list(out.glob("checkpoints/*.ckpt")):
        assert time.monotonic() < end and all(p.poll() is None for p in processes), ends(processes)
        time.sleep(0.1)


def same(one: Path, other: Path) -> bool:
    """Bit by bit."""
    pairs = [[read_volume(p / f"map_half_{n}.mrc")[0] for p in (one, other)] for n in "AB"]
    return all(bool((a == b).all()) for a, b in pairs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles, and ``whole``: the run whose first rank has started the second."""
    folder = tmp_path_factory.mktemp("elsewhere")
    size = dict(box_size=32, pixel_size=5.0, n_particles=200, snr=0.5, bfactor=900)
    simulate.run(make_settings("simulate", out=str(folder / "set"), **size))
    process = start(folder, ("-m", "cryotorch"), *GIVEN, *QUICK, *TWO, "out=whole")
    assert ends([process])[0][0] == 0
    return folder


def test_srun_starts_one_run(folder: Path) -> None:
    (code, said, _), (other, silent, _) = ends(srun(folder, *GIVEN, *QUICK, *TWO, "out=srun"))
    assert (code, other) == (0, 0)
    assert "2 processes" in said and "Iteration  1" in said and silent == ""
    assert same(folder / "srun", folder / "whole")


def test_a_batch_script_without_srun_starts_its_own(folder: Path) -> None:
    batch = start(folder, ("-m", "cryotorch"), *GIVEN, *QUICK, *TWO, "out=batch", **BATCH)
    code, said, _ = ends([batch])[0]
    assert code == 0 and "2 processes" in said
    assert same(folder / "batch", folder / "whole")


def test_scancel_and_resume(folder: Path) -> None:
    """SIGTERM to all, as at the end of the time that a job has."""
    processes = srun(folder, *GIVEN, *QUICK, *TWO, "out=stopped")
    iterating(folder / "stopped", processes)
    for process in processes:
        process.terminate()
    for code, _, said in ends(processes, SOON):
        assert code == 143 and said.count("\n") == 1, said
        assert said.startswith("interrupted: to go on, cryotorch out=stopped resume=true")
    assert [code for code, *_ in ends(srun(folder, "out=stopped", "resume=true"))] == [0, 0]
    assert same(folder / "stopped", folder / "whole")


@pytest.mark.parametrize("rank", [0, 1])
def test_scancel_where_a_task_does_not_come(folder: Path, rank: int) -> None:
    """The other one is in a sum over both, where Python does not hear of signals."""
    out = folder / f"sum_{rank}" / "out"
    out.parent.mkdir()
    place = f"{rank} cryotorch.refinement.em.module:Refinement._reduce {out}"
    processes = srun(folder, *GIVEN, *QUICK, *TWO, f"out={out}", stops=place)
    iterating(out, processes)
    while not out.with_name("stopped").exists():
        assert all(p.poll() is None for p in processes), ends(processes)
        time.sleep(0.1)
    time.sleep(2)
    processes[1 - rank].terminate()
    code, _, said = ends([processes[1 - rank]], SOON)[0]
    assert code == 143 and said.startswith("interrupted: ") and said.count("\n") == 1, said
    processes[rank].terminate()
    code, _, said = ends([processes[rank]], SOON)[0]
    assert code == 143 and said.startswith("interrupted: ") and said.count("\n") == 1, said


@pytest.mark.parametrize("rank", [0, 1])
def test_a_task_is_killed_and_the_run_resumed(folder: Path, rank: int) -> None:
    out = f"killed_{rank}"
    processes = srun(folder, *GIVEN, *QUICK, *TWO, f"out={out}")
    iterating(folder / out, processes)
    processes[rank].kill()
    code, _, said = ends(processes, SOON)[1 - rank]
    assert code == 1 and said.count("\n") == 1, said
    assert said.startswith("error: another process of this run ended")
    assert [code for code, *_ in ends(srun(folder, f"out={out}", "resume=true"))] == [0, 0]
    assert same(folder / out, folder / "whole")


def test_scancel_while_a_task_waits_for_the_first(folder: Path) -> None:
    """Which has ended before the two had met."""
    with socket.create_server(("", 0)) as first:
        first.settimeout(LONGEST)
        port = str(first.getsockname()[1])
        process = task(folder, "1", port, *GIVEN, *QUICK, *TWO, "out=waiting")
        first.accept()[0].close()
    time.sleep(3)
    process.terminate()
    code, _, said = ends([process], SOON)[0]
    assert code == 143 and said.startswith("interrupted: ") and said.count("\n") == 1, said
    assert not (folder / "waiting").exists()


@pytest.mark.parametrize("by", ["srun", "torchrun"])
def test_other_processes_than_the_trainer_means(folder: Path, by: str) -> None:
    given = (*GIVEN, *QUICK, "trainer=cpu", f"out=one_{by}")
    processes = srun(folder, *given) if by == "srun" else [start(folder, ELASTIC, *given)]
    for code, _, said in ends(processes):
        assert code == 1 and f"error: {by} has started 2 processes" in said, said
    assert not (folder / f"one_{by}").exists()


def test_torchrun_starts_one_run(folder: Path) -> None:
    code, said, _ = ends([start(folder, ELASTIC, *GIVEN, *QUICK, *TWO, "out=elastic")])[0]
    assert code == 0 and said.count("2 processes") == 1
    assert same(folder / "elastic", folder / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_torchrun_is_stopped(folder: Path, number: signal.Signals) -> None:
    """Its own traceback is not ours."""
    out = f"elastic_{number.name}"
    process = start(folder, ELASTIC, *GIVEN, *QUICK, *TWO, f"out={out}")
    iterating(folder / out, [process])
    process.send_signal(number)
    _, _, said = ends([process], SOON)[0]
    assert f"interrupted: to go on, cryotorch out={out} resume=true" in said
    assert "gloo" not in said and "RuntimeError" not in said, said
