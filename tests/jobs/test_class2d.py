"""2D classification of simulated particles against their true poses."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs import class2d, simulate
from cryotorch.jobs.config.catalog import make_settings


def test_particles_of_a_class_look_from_one_side(tmp_path: Path) -> None:
    """Views are closer within classes than by chance, opposite ones, which look much alike, included; angles follow the true psi there."""
    size = dict(box_size=32, pixel_size=4.0, n_particles=400, snr=1.0, seed=1)
    simulate.run(make_settings("simulate", out=str(tmp_path / "set"), **size))
    how = dict(n_classes=6, iterations=12, max_resolution=12.0, mask_diameter=96.0, device="cpu")
    given = dict(particles=str(tmp_path / "set" / "particles.star"), shift_extent=8.0, **how)
    out = class2d.run(make_settings("class2d", out=str(tmp_path / "out"), **given))
    truth = read_particles(tmp_path / "set" / "truth.star").particles.rotation
    table = read_star(out / "particles.star")["particles"]
    label = torch.from_numpy(table.integers("rlnClassNumber"))
    view = truth[:, 2]
    near = (view @ view.T).clamp(-1, 1)
    same = (label[:, None] == label) & ~torch.eye(400, dtype=torch.bool)
    assert float(near[same].abs().mean()) > 0.56 > 0.52 > float(near[~same].abs().mean())
    # two particles seen from one side differ by a turn in the plane, which psi must follow
    psi = torch.from_numpy(np.deg2rad(table.floats("rlnAnglePsi")))
    pairs = torch.nonzero(same & (near > 0.97) & torch.ones(400, 400).triu(1).bool())
    turn = truth[pairs[:, 0]].double() @ truth[pairs[:, 1]].double().mT
    true = torch.atan2(turn[:, 0, 1], turn[:, 0, 0])
    off = psi[pairs[:, 0]] - psi[pairs[:, 1]] - true
    wrong = torch.atan2(off.sin(), off.cos()).abs().rad2deg()
    assert len(pairs) > 300 and float(wrong.median()) < 15


def test_damaged_images_are_named_and_spoil_no_class(tmp_path: Path) -> None:
    """Hot pixels, edges of carbon, blank images and another grey scale, among particles whose classes stay as clear."""
    size = dict(box_size=32, pixel_size=4.0, n_particles=300, snr=1.0, seed=1)
    for name in ("clean", "damaged"):
        simulate.run(make_settings("simulate", out=str(tmp_path / name), **size))
    with mrcfile.open(tmp_path / "damaged" / "particles.mrcs", "r+") as stack:
        for row in range(0, 40, 4):
            stack.data[row, row % 32, 5] = 500
            stack.data[row + 1, :, :8] += 15
            stack.data[row + 2] = 0
            stack.data[row + 3] = 1000 * stack.data[row + 3] + 5000
    how = dict(n_classes=4, iterations=8, max_resolution=12.0, mask_diameter=96.0, device="cpu")
    how |= dict(shift_extent=8.0, select=[1, 2, 3, 4])
    curves, means = {}, {}
    for name in ("clean", "damaged"):
        given = str(tmp_path / name / "particles.star")
        out = class2d.run(
            make_settings("class2d", out=str(tmp_path / f"{name}_2d"), particles=given, **how)
        )
        curves[name] = json.loads((out / "summary.json").read_text())
        means[name] = mrcfile.read(out / "classes.mrcs")
    named = curves["damaged"]["damaged_images"]
    assert len(named) >= 30 and not curves["clean"]["damaged_images"]
    assert sum(reason == "blank" for reason in named.values()) == 10
    # strength of the averages: those of 1000 times the grey scale would swamp them, carbon would double them
    strength = {name: values.std(axis=(1, 2)).max() for name, values in means.items()}
    assert strength["damaged"] == pytest.approx(strength["clean"], rel=0.25)
    assert sum(curves["damaged"]["effective_particles"]) == pytest.approx(290, abs=0.01)
    out = tmp_path / "damaged_2d"
    table = read_star(out / "particles.star")["particles"]
    blank = np.arange(300)[2:40:4]
    assert (table.integers("rlnClassNumber")[blank] == 4).all()
    assert (table.floats("rlnMaxValueProbDistribution")[blank] == 0).all()
    assert np.abs(table.floats("cryotorchLogEvidence")[blank]).max() < 1e-4
    assert read_star(out / "selected.star")["particles"].rows == 290


def test_particles_are_needed() -> None:
    with pytest.raises(InputError, match="particles=null cannot be used: add particles="):
        class2d.run(make_settings("class2d", out="nowhere"))


@pytest.mark.data
def test_real_rings_part_from_junk(shared_data: Path, tmp_path: Path) -> None:
    """300 particles of apoferritin among 120 images of noise with their power spectrum: the classes suggested hold the rings."""
    source = shared_data / "real_apoferritin"
    with mrcfile.mmap(source / "particles.mrcs") as stack:
        images = stack.data[:420].astype(np.float32)
    noise = np.fft.rfft2(np.random.default_rng(3).standard_normal(images[300:].shape))
    amplitude = np.sqrt((np.abs(np.fft.rfft2(images[300:])) ** 2).mean(0)) / 128
    images[300:] = np.fft.irfft2(noise * amplitude)
    write_stack(tmp_path / "particles.mrcs", iter([torch.from_numpy(images)]), 420, 128, 1.5)
    tables = read_star(source / "particles.star")
    tables["particles"] = tables["particles"].taken(np.arange(420))
    write_star(tmp_path / "particles.star", tables)
    how = dict(n_classes=6, mask_diameter=150.0, max_resolution=12.0, epochs=1, device="cpu")
    given = dict(particles=str(tmp_path / "particles.star"), select="suggested", **how)
    out = class2d.run(make_settings("class2d", out=str(tmp_path / "out"), **given))
    label = read_star(out / "particles.star")["particles"].integers("rlnClassNumber")
    good = read_star(out / "classes.star")["model_classes"].integers("cryotorchSuggested")
    kept = good[label - 1] > 0
    assert kept[:300].mean() > 0.9 and kept[300:].mean() < 0.15
