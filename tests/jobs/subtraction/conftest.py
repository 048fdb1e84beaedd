"""A small set with half maps and a mask on a part of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.masks.soft import soft_sphere

BOX, PIXEL, N = 32, 4.0, 60


@pytest.fixture(scope="session")
def subtraction_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``posed.star`` with half sets, ``half/`` with two half maps (the truth and a little noise), ``truth.mrc``, ``mask.mrc``, ``all.mrc``."""
    folder = tmp_path_factory.mktemp("subtraction") / "set"
    small = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=8.0, shift_sigma=3, seed=5)
    simulate.run(make_settings("simulate", out=str(folder), **small))
    file = read_particles(folder / "truth.star")
    write_particles(folder / "posed.star", file, file.particles.replace(half=torch.arange(N) % 2))
    truth = read_volume(folder / "truth.mrc")[0]
    draw = torch.Generator().manual_seed(0)
    (folder / "half").mkdir()
    for half in "AB":
        noise = 0.02 * float(truth.abs().max()) * torch.randn(truth.shape, generator=draw)
        write_volume(folder / "half" / f"map_half_{half}.mrc", truth + noise, PIXEL)
    mask = torch.roll(soft_sphere(BOX, 6, 4), (4, -3, 2), (0, 1, 2))
    write_volume(folder / "mask.mrc", mask, PIXEL)
    write_volume(folder / "all.mrc", torch.ones_like(mask), PIXEL)
    return folder
