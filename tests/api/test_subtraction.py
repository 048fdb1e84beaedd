"""Subtracted images from Python are those of the job."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import pytest
import torch

import cryotorch as ct


def test_subtracted_images(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    volume = ct.read_map(folder / "truth.mrc")
    box = len(volume.volume)
    mask = torch.zeros_like(volume.volume)
    mask[box // 2 - 3 : box // 2 + 5, box // 2 - 4 : box // 2 + 4, box // 2 :] = 1
    source = ct.read_particles(folder / "truth.star")
    found = ct.subtract(
        source, volume, ct.Map(mask, volume.pixel_size), recenter_on_mask=True, box_size=box - 8
    )
    assert not list(tmp_path.iterdir())  # no files unless asked
    assert found.warnings[0].startswith("volume is one map for both half sets")
    assert float(found.center[0]) > 0 and abs(found.left) < 0.2
    some = found.images([5, 2])
    assert some.shape == (2, box - 8, box - 8)
    out = found.save("out")
    stored = torch.from_numpy(mrcfile.read(out / "particles.mrcs"))
    assert torch.equal(stored[[5, 2]], some)
    again = ct.read_particles(out / "particles.star").particles
    assert float((again.shift - found.particles.shift).abs().max()) < 1e-4
    assert torch.equal(
        ct.subtract(source, volume, torch.ones_like(mask), pixel_size=volume.pixel_size).images(
            [3]
        ),
        torch.from_numpy(mrcfile.read(source.stacks[0])[3:4].astype("f4")),
    )
    with pytest.raises(ct.InputError, match="rows must be from 0"):
        found.images([1000])
    with pytest.raises(ct.InputError, match="add mask="):
        ct.subtract(source, volume, None)
