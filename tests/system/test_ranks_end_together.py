"""A rank that dies or is stopped takes the others along, with one sentence and the documented exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cryotorch
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings

pytestmark = pytest.mark.slow
SOON = 30  # seconds
CODES = {(0, "SIGKILL"): -9, (1, "SIGKILL"): 1}
STOPS = Path(__file__).with_name("stops_at.py")
# A rank that has come there and no further -> the other one waits in the collective operation that follows.
PLACES = {
    "reduction": "cryotorch.refinement.runtime.ranks:Ranks.gather_halves",
    "M-step": "cryotorch.refinement.em.iteration:regularise",
    "writing": "cryotorch.jobs.refinement.trainer:write_outputs",
}
# Moment, the rank that is there, the rank that gets the signal. Only rank 0 writes.
MOMENTS = [
    *(
        (when, there, rank)
        for when in ("reduction", "M-step")
        for there in (0, 1)
        for rank in (0, 1)
    ),
    *(("writing", 0, rank) for rank in (0, 1)),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together") / "set"
    size = dict(box_size=32, pixel_size=5.0, n_particles=200, snr=0.5, bfactor=900)
    simulate.run(make_settings("simulate", out=str(folder), **size))
    return folder


def start(small: Path, out: Path, stops_at: str = "") -> subprocess.Popen:
    """Two ranks; ``stops_at`` is the rank and the place where it waits."""
    (out.parent / "scratch").mkdir()
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "max_iterations=30")
    given = (f"particles={small}/particles.star", f"volume={small}/initial.mrc", f"out={out}")
    more = {"PYTHONPATH": str(Path(cryotorch.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    more |= {"TMPDIR": str(out.parent / "scratch"), "STOPS_AT": f"{stops_at} {out}"}
    program = [str(STOPS)] if stops_at else ["-m", "cryotorch"]
    return subprocess.Popen(
        [sys.executable, *program, "job=homo_refine", *given, *two],
        env={**os.environ, **more},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def further_rank(pid: int) -> int:
    """The process that rank 0 has started, once it is there."""

    def found() -> list[str]:
        listed = subprocess.run(
            ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True
        )
        lines = listed.stdout.splitlines()
        return [line.split()[0] for line in lines if "job=homo_refine" in line]

    until(found)
    return int(found()[0])


def until(true: Callable[[], object], within: float = 180) -> None:
    """Wait, not for ever."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def all_end(process: subprocess.Popen, other: int, rank: int, kind: str, scratch: Path) -> str:
    """Send a signal to one of two ranks; what they say when all is over."""
    os.kill((process.pid, other)[rank], getattr(signal, kind))
    said = process.communicate(timeout=SOON)[1]
    assert process.returncode == CODES.get((rank, kind), 143)
    assert said.count("\n") == 1 and "Traceback" not in said, said
    until(lambda: not alive(other), SOON)
    if (rank, kind) != (0, "SIGKILL"):  # which could not clear up
        assert not list(scratch.glob("cryotorch-*"))
    return said


@pytest.mark.parametrize("kind", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("when", [1.0, "iterating"])
def test_all_ranks_end(small: Path, tmp_path: Path, when, rank: int, kind: str) -> None:
    process = start(small, tmp_path / "out")
    other = further_rank(process.pid)
    if when == "iterating":
        until(lambda: list(tmp_path.glob("out/checkpoints/*.ckpt")))
    else:
        time.sleep(when)
    said = all_end(process, other, rank, kind, tmp_path / "scratch")
    if when == "iterating":
        assert f"to go on, cryotorch out={tmp_path}/out resume=true" in said


@pytest.mark.parametrize("kind", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize(("when", "there", "rank"), MOMENTS)
def test_all_ranks_end_at(
    small: Path, tmp_path: Path, when: str, there: int, rank: int, kind: str
) -> None:
    """One rank has come to a place and the other waits for it; either gets the signal."""
    process = start(small, tmp_path / "out", f"{there} {PLACES[when]}")
    other = further_rank(process.pid)
    until((tmp_path / "stopped").exists)
    time.sleep(2)  # the other one comes to wait
    said = all_end(process, other, rank, kind, tmp_path / "scratch")
    assert f"to go on, cryotorch out={tmp_path}/out resume=true" in said
