"""A rank that dies or is stopped takes the others along, with one sentence and the documented exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cryotorch
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings

pytestmark = pytest.mark.slow
SOON = 30  # seconds
CODES = {(0, "SIGKILL"): -9, (1, "SIGKILL"): 1}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together") / "set"
    size = dict(box_size=32, pixel_size=5.0, n_particles=200, snr=0.5, bfactor=900)
    simulate.run(make_settings("simulate", out=str(folder), **size))
    return folder


def further_rank(pid: int) -> int:
    """The process that rank 0 has started, once it is there."""
    while True:
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True
        )
        found = [line.split()[0] for line in listed.stdout.splitlines() if "cryotorch" in line]
        if found:
            return int(found[0])
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kind", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("when", [1.0, "iterating"])
def test_all_ranks_end(small: Path, tmp_path: Path, when, rank: int, kind: str) -> None:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "max_iterations=30")
    given = (f"particles={small}/particles.star", f"volume={small}/initial.mrc", f"out={out}")
    path = {"PYTHONPATH": str(Path(cryotorch.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    path["TMPDIR"] = str(scratch)
    process = subprocess.Popen(
        [sys.executable, "-m", "cryotorch", "job=homo_refine", *given, *two],
        env={**os.environ, **path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    other = further_rank(process.pid)
    if when == "iterating":
        while not list(out.glob("checkpoints/*.ckpt")):
            time.sleep(0.2)
    else:
        time.sleep(when)
    os.kill((process.pid, other)[rank], getattr(signal, kind))
    said = process.communicate(timeout=SOON)[1]
    assert process.returncode == CODES.get((rank, kind), 143)
    assert said.count("\n") == 1 and "Traceback" not in said, said
    until = time.monotonic() + SOON
    while alive(other) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(other)
    if (rank, kind) != (0, "SIGKILL"):  # which could not clear up
        assert not list(scratch.glob("cryotorch-*"))
    if when == "iterating":
        assert f"to go on, cryotorch out={out} resume=true" in said
