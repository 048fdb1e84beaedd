"""The same half maps and mask give the same numbers and the same sharpened map in every job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import read_volume, write_stack
from cryotorch.jobs import homo_refine, orientation_diagnostics, sharpen, simulate, validation_fsc
from cryotorch.jobs.config.catalog import make_settings

pytestmark = pytest.mark.slow


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A refinement that ends well before Nyquist."""
    data = tmp_path_factory.mktemp("data")
    small = dict(box_size=64, pixel_size=2.0, n_particles=300, snr=0.1, symmetry="C4", bfactor=80)
    simulate.run(make_settings("simulate", out=str(data), **small))
    out = data / "refined"
    given = dict(particles=str(data / "particles.star"), volume=str(data / "initial.mrc"))
    more = dict(symmetry="C4", max_iterations=4, trainer__accelerator="cpu", out=str(out))
    homo_refine.run(make_settings("homo_refine", **given, **more))
    return out


def test_every_job_claims_the_same(run: Path, tmp_path: Path) -> None:
    said = summary(run)
    assert 4 < said["resolution"] < 10
    mask, resolutions = str(run / "mask_fsc.mrc"), {}
    for name, job, more in (
        ("validation_fsc", validation_fsc, {"mask": mask}),
        ("sharpen", sharpen, {}),
        ("orientation_diagnostics", orientation_diagnostics, {}),
    ):
        job.run(make_settings(name, volume=str(run), out=str(tmp_path / name), **more))
        resolutions[name] = summary(tmp_path / name)["resolution"]
    assert resolutions == dict.fromkeys(resolutions, pytest.approx(said["resolution"], rel=1e-6))
    table = (run / "fsc.txt").read_text().splitlines()
    assert table == (tmp_path / "validation_fsc" / "fsc.txt").read_text().splitlines()
    assert table[0].endswith("\tnoise_band")


def test_the_sharpened_map_is_that_of_job_sharpen(run: Path, tmp_path: Path) -> None:
    sharpen.run(make_settings("sharpen", volume=str(run), out=str(tmp_path / "own")))
    ours, own = summary(run), summary(tmp_path / "own")
    assert ours["bfactor"] == ours["bfactor_fitted"] == pytest.approx(own["bfactor"], rel=0.01)
    assert ours["bfactor_error"] == pytest.approx(own["guinier"]["error"], rel=0.01)
    a, b = (read_volume(folder / "map_sharp.mrc")[0] for folder in (run, tmp_path / "own"))
    assert float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) > 0.9999


@pytest.mark.parametrize("symmetry", ["C1", "O"])
def test_pure_noise_claims_nothing(symmetry: str, tmp_path: Path, capfd) -> None:
    """Whatever the reference: both halves are aligned to it up to the split, and share that."""
    data = tmp_path / "data"
    small = dict(box_size=64, pixel_size=3.0, n_particles=300, snr=0.1, symmetry=symmetry)
    simulate.run(make_settings("simulate", out=str(data), **small))
    noise = torch.randn(300, 64, 64, generator=torch.Generator().manual_seed(4))
    write_stack(data / "particles.mrcs", [noise.numpy()], 300, 64, 3.0)
    out = tmp_path / "refined"
    given = dict(particles=str(data / "particles.star"), volume=str(data / "truth.mrc"))
    more = dict(symmetry=symmetry, initial_resolution=25, trainer__accelerator="cpu", out=str(out))
    capfd.readouterr()
    homo_refine.run(make_settings("homo_refine", **given, **more))
    found = summary(out)
    assert found["resolution"] is None and set(found["resolutions"].values()) == {None}
    assert [w for w in found["warnings"] if "othing to claim" in w or "No resolution" in w]
    assert "No resolution can be claimed" in capfd.readouterr().out.splitlines()[-1]
