"""Simulate, refine and reconstruct from Python: what the jobs make, without their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import cryotorch as ct
from cryotorch.data.mrc import read_volume
from cryotorch.jobs import homo_refine
from cryotorch.jobs.config.catalog import make_settings

SHORT = dict(max_iterations=2, trainer__accelerator="cpu", search__grid_step=15.0)


def test_simulated_images_are_those_that_the_job_writes(folder: Path) -> None:
    file = ct.read_particles(folder / "truth.star")
    made = ct.simulate(box_size=32, pixel_size=4.0, n_particles=120, snr=0.5, seed=2)
    read = ct.read_images(file, [0, 7])
    middle = slice(8, 24)  # the background is subtracted in reading
    apart = made.images[[0, 7], middle, middle] - read[:, middle, middle]
    assert float(apart.std((1, 2)).max()) < 1e-5
    assert torch.allclose(file.particles.rotation, made.particles.rotation, atol=1e-5)
    assert not made.blind.has_pose


def test_a_refinement_is_that_of_the_job(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, initial = (
        ct.read_particles(folder / "particles.star"),
        ct.read_map(folder / "initial.mrc"),
    )
    found = ct.refine(file, initial, **SHORT)
    assert not list(tmp_path.iterdir())  # no files unless asked
    names = dict(particles=str(file.path), volume=str(folder / "initial.mrc"))
    homo_refine.run(make_settings("homo_refine", out=str(tmp_path / "job"), **names, **SHORT))
    for name, half in zip("AB", found.half_maps, strict=True):
        assert torch.equal(half, read_volume(tmp_path / "job" / f"map_half_{name}.mrc")[0])
    found.save(tmp_path / "saved")
    for name in ("map.mrc", "particles.star", "fsc.txt"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "job" / name).read_bytes()
    with pytest.raises(ct.InputError, match="already holds a run"):
        found.save(tmp_path / "saved")
    turn = found.particles.rotation.mT @ ct.read_particles(folder / "truth.star").particles.rotation
    angle = torch.acos(((turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)).rad2deg()
    assert float(angle.median()) < 8 and len(found.result.history) == 2


def test_a_mask_of_ones_is_a_mask_for_function_and_job(folder: Path, tmp_path: Path) -> None:
    """Where nothing is cut off, as if there was none."""
    names = dict(particles=folder / "particles.star", volume=folder / "initial.mrc")
    ones, given = torch.ones(32, 32, 32), SHORT | dict(max_iterations=1, mask_mode="static")
    found = ct.refine(**names, mask=ones, pixel_size=4.0, **given)
    assert torch.equal(found.result.mask_refine, ones)
    ct.write_map(tmp_path / "ones.mrc", ones, 4.0)
    mask, out = tmp_path / "ones.mrc", tmp_path / "job"
    homo_refine.run(make_settings("homo_refine", **names, mask=mask, out=out, **given))
    assert torch.equal(found.half_maps[0], read_volume(out / "map_half_A.mrc")[0])


def test_a_local_refinement_starts_from_tensors(
    folder: Path, reconstruction: ct.Reconstruction, tmp_path: Path
) -> None:
    reconstruction.save(tmp_path / "made")
    mask = ct.make_mask(reconstruction.map, 4.0, threshold=0.3, soften=12.0)
    poses = tmp_path / "made" / "particles.star"
    volume, region = ct.Map(reconstruction.map, 4.0), ct.Map(mask, 4.0)
    found = ct.local_refine(poses, volume, region, max_iterations=1, trainer__accelerator="cpu")
    assert found.result.departures is not None and found.map.shape == (32,) * 3


def test_a_reconstruction_from_true_poses_is_the_map(
    folder: Path, reconstruction: ct.Reconstruction
) -> None:
    truth = ct.read_map(folder / "truth.mrc")
    assert truth.pixel_size == reconstruction.pixel_size == 4.0
    pair = np.corrcoef(truth.volume.flatten(), reconstruction.map.flatten())
    assert pair[0, 1] > 0.9 and reconstruction.resolution <= 12


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ct.simulate(box_sice=32), "did you mean box_size"),
        (lambda: ct.simulate(second_body="phantom"), "second_body cannot be used here"),
        (lambda: ct.simulate(junk_share=0.1), "junk_share cannot be used here"),
        (
            lambda: ct.refine("none.star", torch.zeros(8, 8, 8)),
            "volume is a tensor: add pixel_size",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence(call, said: str) -> None:
    with pytest.raises(ct.InputError, match=said):
        call()


def test_particles_that_were_changed_in_memory_are_not_read_again_in_silence(folder: Path) -> None:
    file, initial = ct.read_particles(folder / "truth.star"), ct.read_map(folder / "initial.mrc")
    fewer = replace(file, particles=file.particles[torch.arange(40)])
    with pytest.raises(ct.InputError, match="was changed since it was read"):
        ct.refine(fewer, initial)
    with pytest.raises(ct.InputError, match="of the type Particles, which names no images"):
        ct.reconstruct(file.particles)
    with pytest.raises(ct.InputError, match="rows must be from 0 to 119"):
        ct.read_images(file, [0, 120])
    with pytest.raises(ct.InputError, match="on one device, use the job"):
        ct.refine(file, initial, trainer__devices=2, trainer__accelerator="cpu")
    for name in ("out", "resume"):
        with pytest.raises(ct.InputError, match=f"{name} cannot be used here"):
            ct.refine(file, initial, **{name: True})
    with pytest.raises(ct.InputError, match="pixel_size is for maps in memory"):
        ct.refine(file, str(folder / "initial.mrc"), pixel_size=2.0)
