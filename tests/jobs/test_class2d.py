"""2D classification of simulated particles against their true poses."""

from __future__ import annotations

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
