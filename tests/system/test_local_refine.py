"""job=local_refine as a user runs it: the second of two bodies, from poses that belong to the first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import cryotorch
from cryotorch.data.mrc import read_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.resolution.fsc import shell_correlation

pytestmark = pytest.mark.slow


def cryotorch_job(*arguments: str, cwd: Path) -> str:
    path = str(Path(cryotorch.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "cryotorch", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    few = ("box_size=48", "pixel_size=3.5", "n_particles=400", "snr=0.5", "seed=2")
    cryotorch_job(
        "job=simulate", "second_body=phantom", "second_body_size=0.8", *few, "out=data", cwd=folder
    )
    return folder / "data"


def rotation_error(path: Path, data: Path) -> float:
    found, truth = (read_particles(p).particles.rotation for p in (path, data / "truth_body2.star"))
    return float(rotation_angle(found, truth).rad2deg().median())


def test_the_second_body_is_found_and_sharper(data: Path, tmp_path: Path) -> None:
    hinge = yaml.safe_load((data / "config.yaml").read_text())["hinge"]
    inputs = [f"particles={data}/consensus.star", f"mask={data}/mask_body2.mrc"]
    inputs += [f"volume={data}/truth.mrc", "initial_resolution=14", "minibatch_size=64"]
    common = ["job=local_refine", *inputs, "rotation_extent=12", "shift_extent=8", "trainer=cpu"]
    fulcrum = f"fulcrum=[{','.join(map(str, hinge))}]"
    still = ["prior_rotation=0", "prior_shift=0", "max_iterations=1"]
    cryotorch_job(*common, fulcrum, *still, "out=still", cwd=tmp_path)
    said = cryotorch_job(*common, fulcrum, "out=moved", cwd=tmp_path)
    assert "each half set" not in said and "both half sets start from the map" in said
    before, after = (
        rotation_error(tmp_path / n / "particles.star", data) for n in ("still", "moved")
    )
    assert before > 4 and after < 0.5 * before
    truth, mask = (read_volume(data / f"{n}.mrc")[0] for n in ("truth_body2", "mask_body2"))
    maps = [read_volume(tmp_path / n / "map.mrc")[0] for n in ("still", "moved")]
    curves = [shell_correlation(m * mask, truth * mask)[6:22].mean() for m in maps]
    assert curves[1] > curves[0] + 0.05
    assert torch.equal(
        *(
            read_particles(p).particles.half
            for p in (data / "consensus.star", tmp_path / "moved" / "particles.star")
        )
    )
