"""Variability through the job: files, verdict, coordinates that the next job takes, and a set without any."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs import particles, simulate, variability
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.refinement.variability.agreement import explained, faults_of_images

SIZE = dict(box_size=32, pixel_size=5.0, n_particles=240, snr=0.3, resolution=12.0)
FAST = dict(n_components=2, max_resolution=14.0, iterations=8, device="cpu")


def made(folder: Path, source: Path, **changes) -> dict:
    given = FAST | dict(particles=str(source / "truth.star"), out=str(folder)) | changes
    variability.run(make_settings("variability", **given))
    return json.loads((folder / "summary.json").read_text())


def simulated(folder: Path, **changes) -> Path:
    return simulate.run(make_settings("simulate", out=str(folder), **(SIZE | changes)))


def test_two_species(tmp_path: Path) -> None:
    """The component is the difference of the maps; the next job cuts the species apart."""
    source = simulated(tmp_path / "set", second_species="phantom", snr=0.6)
    told = made(tmp_path / "out", source, n_frames=3)
    assert told["real"] == 1 and told["components"][0]["errors"] > 10 and not told["warnings"]
    component, _ = read_volume(tmp_path / "out" / "component_1.mrc")
    mask, _ = read_volume(tmp_path / "out" / "mask.mrc")
    a, b = (read_volume(source / name)[0] for name in ("truth.mrc", "truth_species2.mrc"))
    difference = resize_volume(low_pass(b - a, 5.0, 14.0), len(component)) * mask
    alike = (component * difference).sum() / (component.norm() * difference.norm())
    assert abs(float(alike)) > 0.9
    star = read_star(tmp_path / "out" / "particles.star")["particles"]
    place, truth = star.floats("cryotorchComponent1"), star.floats("cryotorchSpecies")
    assert abs(np.corrcoef(place, truth)[0, 1]) > 0.95
    assert 0 < star.floats("cryotorchComponentSigma1").mean() < 0.5
    cut = str(tmp_path / "cut")
    where = "cryotorchComponent1 > 0"
    source_star = str(tmp_path / "out" / "particles.star")
    particles.run(make_settings("particles", particles=source_star, where=where, out=cut))
    kept = read_star(Path(cut) / "particles.star")["particles"].floats("cryotorchSpecies")
    assert max((kept == 1).mean(), (kept == 2).mean()) > 0.95
    assert len(list((tmp_path / "out" / "frames_1").iterdir())) == 3


def test_a_set_without_variability(tmp_path: Path) -> None:
    told = made(tmp_path / "out", simulated(tmp_path / "set", seed=4))
    assert told["real"] == 0 and told["findings"][0]["code"] == "no_component"
    assert max(one["errors"] for one in told["components"]) < 4
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "mean.mrc" in names and "components.png" in names
    assert not {
        n for n in names if n.startswith(("component_", "frames", "unshared", "components.cxc"))
    }
    star = read_star(tmp_path / "out" / "particles.star")["particles"]
    assert not [label for label in star if "Component" in label]


def test_errors_of_poses_are_called_that(tmp_path: Path) -> None:
    """Rotations 8 degrees off: what varies is real, and no part moves."""
    from cryotorch.data.particle_file import read_particles, write_particles
    from cryotorch.ops.geometry.rotations import from_rotation_vector

    source = simulated(tmp_path / "set", seed=5, snr=1.5)
    file = read_particles(source / "truth.star", need_half_sets=False)
    draw = torch.Generator().manual_seed(0)
    off = from_rotation_vector(0.14 * torch.randn(240, 3, generator=draw))
    turned = file.particles.replace(rotation=off.float() @ file.particles.rotation)
    write_particles(source / "off.star", file, turned)
    told = made(tmp_path / "out", source, particles=str(source / "off.star"))
    if told["real"]:
        assert told["components"][0]["by_faults"] > 0.5
        assert "component_by_faults" in [one["code"] for one in told["findings"]]


@pytest.mark.slow
def test_a_part_that_turns(tmp_path: Path) -> None:
    """The first component is the derivative of the second body by its rotations."""
    body = dict(second_body="phantom", second_body_size=0.8, second_body_rotation=6.0)
    source = simulated(tmp_path / "set", n_particles=800, snr=1.0, second_body_shift=0.0, **body)
    told = made(tmp_path / "out", source, n_components=3, iterations=15)
    assert told["real"] >= 1
    component, _ = read_volume(tmp_path / "out" / "component_1.mrc")
    mask, _ = read_volume(tmp_path / "out" / "mask.mrc")
    moving, _ = read_volume(source / "truth_body2.mrc")
    moving = resize_volume(low_pass(moving, 5.0, 14.0), len(component))
    modes = faults_of_images(moving, mask)[2:]
    assert float(explained(component[None], modes)) ** 0.5 > 0.85


def test_no_particles() -> None:
    with pytest.raises(InputError, match="add particles="):
        variability.run(make_settings("variability"))
