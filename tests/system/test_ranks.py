"""Two processes in what goes on after a first run: sweeps, in which a run is refused, and resumed runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cryotorch
from cryotorch.data.mrc import read_volume
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.manifest import Manifest

pytestmark = pytest.mark.slow
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
QUICK = ("search.grid_step=15", "search.candidates=4", "minibatch_size=16")


def cryotorch_in(folder: Path, *arguments: str, code: int = 0) -> str:
    """What a command prints; a deadlock does not end in time."""
    path = {"PYTHONPATH": str(Path(cryotorch.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "cryotorch", *arguments],
        cwd=folder,
        env={**os.environ, **path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def half_maps(out: Path) -> torch.Tensor:
    return torch.stack([read_volume(out / f"map_half_{n}.mrc")[0] for n in "AB"])


def same(a: Path, b: Path) -> bool:
    """Whether two runs have found the same, but for the order of their sums."""
    pair = torch.stack([half_maps(a).flatten(), half_maps(b).flatten()])
    return float(torch.corrcoef(pair)[0, 1]) > 0.9999


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over three seeds with two ranks whose second run is refused, which only the first rank sees."""
    folder = tmp_path_factory.mktemp("ranks")
    size = dict(box_size=24, pixel_size=5.0, n_particles=100, snr=0.5, bfactor=900)
    simulate.run(make_settings("simulate", out=str(folder / "set"), **size))
    (folder / "sweep" / "seed=1").mkdir(parents=True)
    Manifest("homo_refine", iterations=1).write(folder / "sweep" / "seed=1")
    job = ("job=homo_refine", "particles=set/particles.star", "volume=set/initial.mrc")
    given = (*job, *QUICK, "max_iterations=2")
    ways = ("seed=0,1,2", "hydra.sweep.dir=sweep", "--multirun")
    (folder / "said.txt").write_text(cryotorch_in(folder, *given, *TWO, *ways, code=1))
    for seed in (0, 2):
        cryotorch_in(folder, *given, "trainer=cpu", f"seed={seed}", f"out=alone_{seed}")
    return folder


@pytest.mark.parametrize("seed", [0, 2])
def test_runs_of_a_sweep_are_those_of_one_process(swept: Path, seed: int) -> None:
    assert same(swept / "sweep" / f"seed={seed}", swept / f"alone_{seed}")
    assert not same(swept / "alone_0", swept / "alone_2")


def test_the_refused_run_is_told_by_one_rank_and_in_the_table(swept: Path) -> None:
    said = (swept / "said.txt").read_text()
    assert said.count("already holds a run") == 2  # where it happens, and below the table
    runs = json.loads((swept / "sweep" / "sweep.json").read_text())["runs"]
    assert [(run["name"], bool(run["error"])) for run in runs] == [
        ("seed=0", False),
        ("seed=1", True),
        ("seed=2", False),
    ]
    assert [run["iterations"] for run in runs] == [2, None, 2]


def test_two_ranks_resume_what_two_began(swept: Path) -> None:
    """To the same maps as in one process."""
    said = cryotorch_in(swept, "out=sweep/seed=0", "resume=true", "max_iterations=3")
    assert "2 processes" in said and said.count("Iteration  3") == 1
    assert "Iteration  1" not in said
    cryotorch_in(swept, "out=alone_0", "resume=true", "max_iterations=3")
    assert same(swept / "sweep" / "seed=0", swept / "alone_0")
