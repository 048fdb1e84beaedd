"""The local refinement from outside: what it refuses, and that poses stay where they may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs import local_refine, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.geometry.rotations import from_rotation_vector, rotation_angle
from cryotorch.ops.masks.soft import soft_sphere

BOX, PIXEL, N = 24, 4.0, 60
FAST: dict[str, Any] = dict(
    max_iterations=2, trainer__accelerator="cpu", initial_resolution=20.0, search__candidates=3
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles with true poses, poses that are a little off, half sets, maps and masks."""
    folder = tmp_path_factory.mktemp("local")
    few = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=6.0, shift_sigma=3)
    simulate.run(make_settings("simulate", out=str(folder), **few))
    source = read_particles(folder / "truth.star")
    generator = torch.Generator().manual_seed(0)
    turn = 0.07 * torch.randn(N, 3, generator=generator)
    shift = source.particles.shift + torch.randn(N, 2, generator=generator)
    half = torch.arange(N) % 2
    off = source.particles.replace(
        rotation=from_rotation_vector(turn) @ source.particles.rotation, shift=shift, half=half
    )
    write_particles(folder / "start.star", source, off)
    write_particles(folder / "no_halves.star", source, off.replace(half=half - 2 * half - 1))
    mask = soft_sphere(BOX, 8, 3)
    write_volume(folder / "mask.mrc", mask, PIXEL)
    write_volume(folder / "hard.mrc", (mask > 0.5).float(), PIXEL)
    write_volume(folder / "other_box.mrc", mask[1:-1, 1:-1, 1:-1], 1.0)
    write_volume(folder / "empty.mrc", torch.zeros(BOX, BOX, BOX), PIXEL)
    truth = read_volume(folder / "truth.mrc")[0]
    for name in "AB":
        write_volume(folder / f"map_half_{name}.mrc", truth, PIXEL)
    return folder


def refine(data: Path, out: Path, **changes: object) -> Path:
    given = dict(
        particles=str(data / "start.star"),
        volume=str(data / "truth.mrc"),
        mask=str(data / "mask.mrc"),
        out=str(out),
    )
    local_refine.run(make_settings("local_refine", **{**FAST, **given, **changes}))
    return out


def found(out: Path) -> torch.Tensor:
    return read_particles(out / "particles.star").particles


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            dict(particles=None),
            "particles=null cannot be used: add particles=<STAR file with orientations",
        ),
        (dict(volume=None), "add volume=<run folder or map>"),
        (dict(mask=None), "needs a soft mask around the region, add mask=<file>"),
        (dict(particles="particles.star"), "has no orientations"),
        (dict(particles="no_halves.star"), "particles without half set"),
        (
            dict(mask="other_box.mrc"),
            "22 voxels per edge but the particles have 24 pixels.* like=<map>",
        ),
        (dict(mask="empty.mrc"), "is empty"),
        (dict(fulcrum=[12.0, 12.0, 24.0]), "it lies outside the box, whose voxels go from 0 to 23"),
        (dict(fulcrum=[12.0, 12.0]), "write three numbers"),
        (dict(fulcrum="centre"), "fulcrum must be mask_center or box_center or a list"),
        (dict(rotation_extent=-1), "rotation_extent=-1 cannot be used: it must not be negative"),
        (dict(rotation_extent=190), "from 0 to 180 degrees"),
        (dict(shift_extent="-2px"), "it must not be negative"),
        (
            dict(rotation_extent=5, prior_rotation=8),
            "prior_rotation=8 cannot be used: .* at most rotation_extent, 5",
        ),
        (
            dict(shift_extent=6, prior_shift=4),
            "prior_shift=4 cannot be used: .* at most half of shift_extent, 3",
        ),
    ],
)
def test_refused_with_a_sentence(data: Path, tmp_path: Path, changes: dict, sentence: str) -> None:
    for name in ("particles", "mask"):
        if isinstance(changes.get(name), str):
            changes = {**changes, name: str(data / changes[name])}
    with pytest.raises(InputError, match=sentence):
        refine(data, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_poses_come_nearer_to_the_truth_and_stay_within_the_extents(
    data: Path, tmp_path: Path
) -> None:
    out = refine(
        data,
        tmp_path / "out",
        rotation_extent=12,
        shift_extent=8,
        initial_resolution=9.0,
        max_iterations=1,
    )
    truth, start, now = (
        read_particles(p).particles
        for p in (data / "truth.star", data / "start.star", out / "particles.star")
    )
    before, after = (rotation_angle(p.rotation, truth.rotation).rad2deg() for p in (start, now))
    assert after.median() < 0.6 * before.median()
    assert torch.equal(now.half, start.half)
    table = read_star(out / "particles.star")["particles"]
    turned, moved = (
        np.array(table[c], float) for c in ("cryotorchRotationChange", "cryotorchShiftChange")
    )
    np.testing.assert_allclose(
        turned, rotation_angle(now.rotation, start.rotation).rad2deg(), atol=0.02
    )
    assert turned.max() <= 12.01 and moved.max() <= 4.01 and turned.max() > 3
    summary = json.loads((out / "summary.json").read_text())
    assert summary["fulcrum_voxels"] == pytest.approx([12, 12, 12], abs=0.01)
    share, log = summary["mask_keeps"], (out / "log.txt").read_text()
    assert f"the mask keeps {share:.0%} of the density that both half maps share" in log
    assert ("it is the whole molecule that is refined" in log) == (share >= 0.95)
    assert not any("leaves out" in warning for warning in summary["warnings"])
    assert (out / "plots" / "departures.png").is_file()
    # the region's mask is the one that judges
    torch.testing.assert_close(
        read_volume(out / "mask_fsc.mrc")[0], read_volume(data / "mask.mrc")[0]
    )


def test_priors_without_width_keep_the_poses(data: Path, tmp_path: Path) -> None:
    out = refine(data, tmp_path / "out", prior_rotation=0, prior_shift=0, max_iterations=1)
    start, now = read_particles(data / "start.star").particles, found(out)
    assert rotation_angle(now.rotation, start.rotation).max() < 1e-3
    assert (now.shift - start.shift).abs().max() < 1e-2


def test_extents_follow_priors(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refine(
        data,
        tmp_path / "out",
        prior_rotation="0.05rad",
        prior_shift="0.5px",
        max_iterations=1,
        fulcrum=["40A", "48A", "48A"],
    )
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "rotations up to 8.59°, shifts up to 6 Å from the start, priors of 2.86° and 2 Å" in log
    assert (
        "fulcrum [10.0, 12.0, 12.0] voxels from the corner of the box ([40.0, 48.0, 48.0] Å)" in log
    )


def test_half_maps_of_a_run_folder_and_a_hard_mask(data: Path, tmp_path: Path) -> None:
    refine(
        data,
        tmp_path / "out",
        volume=str(data),
        mask=str(data / "hard.mrc"),
        max_iterations=1,
        mask_mode="dynamic",
    )
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "each half set starts from its own half map, map_half_A.mrc and map_half_B.mrc" in log
    assert "has a hard edge: soften it, with job=volume_tools soften=15" in log
