"""Poses of all particles, the hand, and damaged images."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import pytest
import torch
from tqdm import tqdm

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs.initial_map import steps
from cryotorch.jobs.initial_map.steps import StageBar, with_hand
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.ops.geometry.rotations import rotation_angle

PIXEL = 6.0


def with_like(begun: Any, like: Path) -> Any:
    inputs = replace(begun.inputs, settings=replace(begun.inputs.settings, like=str(like)))
    return with_hand(begun.made, inputs)


def test_every_particle_gets_its_pose(begun: Any) -> None:
    """Also those that the map was not made of: turned onto the true map, poses are the true ones."""
    truth = read_particles(begun.data / "truth.star").particles
    map_, _ = read_volume(begun.data / "truth.mrc")
    volume, found = begun.made.maps[0], begun.made.found.rotation
    if fit_map(volume, map_, PIXEL, 15.0).mirrored:
        flip = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
        volume, found = flip_hand(volume), flip @ found
    turn = fit_map(volume, map_, PIXEL, 15.0, hand="same").rotation.float()
    error = rotation_angle(found @ turn.mT, truth.rotation).rad2deg()
    assert float(error.median()) < 5
    assert float(error[begun.inputs.rest].median()) < 5
    assert float((error < 20).float().mean()) > 0.9


def test_like_picks_the_hand_of_map_and_poses(begun: Any, tmp_path: Path) -> None:
    truth, _ = read_volume(begun.data / "truth.mrc")
    write_volume(tmp_path / "mirror.mrc", flip_hand(truth), PIXEL)
    a = with_like(begun, begun.data / "truth.mrc")
    b = with_like(begun, tmp_path / "mirror.mrc")
    for made, wanted in ((a, truth), (b, flip_hand(truth))):
        fit = fit_map(made.maps[0], wanted, PIXEL, 15.0)
        assert not fit.mirrored and made.fit[0] > 0.95 and made.fit[1] < 0.8
        assert "hand_fitted" in [finding.code for finding in made.findings]
    assert torch.equal(a.maps, torch.stack([flip_hand(volume) for volume in b.maps]))
    sign = torch.tensor([-1.0, -1, 1])[:, None]
    assert torch.equal(a.found.rotation, sign * b.found.rotation)
    assert torch.equal(a.found.shift_px, b.found.shift_px)


def test_without_like_the_hand_is_said_to_be_unknown(begun: Any) -> None:
    assert begun.made.fit is None and begun.summary["fit"] is None
    assert "either_hand" in [finding.code for finding in begun.made.findings]
    assert "cannot tell the hand" in (begun.out / "log.txt").read_text()


def test_the_folder_of_a_run_is_like(begun: Any) -> None:
    made = with_like(begun, begun.out)
    assert made.fit[0] > 0.99 and torch.equal(made.maps, begun.made.maps)


@pytest.mark.parametrize(
    ("values", "pixel_size", "said"),
    [
        (torch.zeros(24, 24, 24), PIXEL, "like=.* is blank"),
        (torch.randn(24, 24, 24), 0.0, "like=.* does not state its pixel size"),
    ],
    ids=["blank", "no pixel size"],
)
def test_a_map_that_cannot_be_like(
    begun: Any, tmp_path: Path, values: torch.Tensor, pixel_size: float, said: str
) -> None:
    write_volume(tmp_path / "like.mrc", values, pixel_size)
    with pytest.raises(InputError, match=said):
        with_like(begun, tmp_path / "like.mrc")
    with pytest.raises(InputError, match=r"like=.* holds no map"):
        with_like(begun, tmp_path.parent)


def test_damaged_images_are_named(begin: Callable, begun: Any, tmp_path: Path) -> None:
    """Blank, not finite and loud ones; and all of them get poses."""
    images = mrcfile.read(begun.data / "particles.mrcs").copy()
    images[3], images[8] = 0, 1e6 * images[8]
    with mrcfile.new(tmp_path / "particles.mrcs", images) as file:
        file.voxel_size = PIXEL
    with mrcfile.mmap(tmp_path / "particles.mrcs", "r+") as file:
        file.data[5, 3:6] = float("nan")
    table = read_star(begun.data / "particles.star")
    write_star(tmp_path / "particles.star", table)
    found = begin(tmp_path / "run", particles=str(tmp_path / "particles.star"))
    names = sorted(name.split("@")[0].lstrip("0") for name in found.summary["damaged_images"])
    assert names == ["4", "6", "9"]
    assert any("3 of 200 images look damaged" in said for said in found.summary["warnings"])
    assert bool(read_particles(found.out / "particles.star").particles.rotation.isfinite().all())


def test_contrast_that_should_have_been_inverted(
    begin: Callable, begun: Any, tmp_path: Path
) -> None:
    """It is said that there is no structure, and invert=true is named."""
    images = -mrcfile.read(begun.data / "particles.mrcs")
    with mrcfile.new(tmp_path / "particles.mrcs", images) as file:
        file.voxel_size = PIXEL
    write_star(tmp_path / "particles.star", read_star(begun.data / "particles.star"))
    given = dict(particles=str(tmp_path / "particles.star"))
    found = begin(tmp_path / "run", 6, 1, **given)
    assert "invert=true" in found.summary["warnings"][0]
    dark = begin(tmp_path / "dark", 6, 1, nonnegative=False, **given)
    assert any("protein is dark in it" in said for said in dark.summary["warnings"])
    right = begin(tmp_path / "right", 6, 1, invert=True, **given)
    assert right.summary["warnings"] == []


def test_a_bar_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        steps, "tqdm", lambda **given: tqdm(**given | dict(disable=False, file=io.StringIO()))
    )
    bar = StageBar()
    for stage, done in (("starts", 0.5), ("starts", 1.0), ("poses", 0.5)):
        bar(stage, done)
    bar.close()
    assert bar._bar is not None and (bar._bar.desc, bar._bar.n) == ("poses", 500)
