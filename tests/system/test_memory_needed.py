"""What jobs say that they need is what they then take, at two sizes each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BOXES = (128, 192)
MAPS = "job={} half_map_a=made/map_half_A.mrc half_map_b=made/map_half_B.mrc mask=made/mask_fsc.mrc"
JOBS = {
    "reconstruct": "job=reconstruct particles=set/truth.star padding=2",
    "validation_fsc": MAPS.format("validation_fsc"),
    "sharpen": MAPS.format("sharpen"),
    "local_resolution": MAPS.format("local_resolution"),
    "volume_tools": "job=volume_tools volume=made/map.mrc low_pass=10",
    "orientation_diagnostics": "job=orientation_diagnostics volume=made particles=set/truth.star",
    "create_templates": "job=create_templates volume=made/map.mrc",
    "ctf_refine": "job=ctf_refine particles=made/particles.star volume=made",
    "homo_refine": "job=homo_refine particles=set/particles.star volume=set/initial.mrc max_iterations=2",
}


def run(folder: Path, command: str, out: str) -> str:
    """The terminal of a job in a process of its own, as a peak is of a whole process."""
    arguments = [sys.executable, "-m", "cryotorch", *command.split(), f"out={out}"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module", params=BOXES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(f"box{request.param}")
    run(folder, f"job=simulate n_particles=100 box_size={request.param} pixel_size=1.5", "set")
    run(folder, JOBS["reconstruct"], "made")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_job_takes_what_it_says(job: str, made: Path) -> None:
    said = re.search(r"needs about ([\d.]+) GB", run(made, JOBS[job], job))
    assert said, "nothing was said"
    taken = json.loads((made / job / "summary.json").read_text())["peak_memory_mib"]["host"]
    assert float(said[1]) == pytest.approx(taken * 2**20 / 1e9, rel=0.2)
