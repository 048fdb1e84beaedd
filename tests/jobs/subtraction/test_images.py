"""Pixels of the new images: to the bit where nothing is subtracted, at their places where they are moved and cut."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.curation.particle_list import listed
from cryotorch.jobs.subtraction.images import Cut, cut_of, new_images
from cryotorch.jobs.subtraction.inputs import Prepared, prepare
from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.geometry.placement import centre_of_mass
from cryotorch.refinement.subtraction import Subtraction

ROWS = np.array([7, 0, 59, 31])


def made(folder: Path, mask: str = "mask.mrc", **changes: object) -> tuple[Prepared, Cut]:
    files = dict(particles=str(folder / "posed.star"), volume=str(folder / "half"))
    settings = make_settings("subtract", **files, mask=str(folder / mask), device="cpu", **changes)
    prepared = prepare(settings)
    return prepared, cut_of(prepared, listed(prepared.file, None, folder)[0])


def test_where_all_is_kept_images_stay_to_the_bit(subtraction_set: Path) -> None:
    prepared, cut = made(subtraction_set, "all.mrc")
    found = torch.cat(list(new_images(prepared, cut, ROWS)))
    assert torch.equal(found, prepared.stored(ROWS)) and prepared.left == 0


def test_what_is_left_is_what_the_mask_keeps(subtraction_set: Path) -> None:
    """The noise-free images, and those of the truth inside the mask, differ by the images' own noise alone."""
    prepared, cut = made(subtraction_set, minibatch_size=3)
    rows = np.arange(60)
    found = torch.cat(list(new_images(prepared, cut, rows)))
    truth, mask = (read_volume(subtraction_set / f"{x}.mrc")[0] for x in ("truth", "mask"))
    whole, kept = (
        Subtraction(prepared.particles, x.expand(2, -1, -1, -1), 4.0) for x in (truth, truth * mask)
    )
    one = torch.from_numpy(rows)
    noise = prepared.stored(rows) - whole.projections(one, 32, 4.0)
    wanted = kept.projections(one, 32, 4.0)
    left = (found - noise - wanted).flatten(1)
    left = left - left.mean(1, keepdim=True)
    outside = whole.projections(one, 32, 4.0) - wanted
    assert float(left.square().sum() / outside.square().sum()) < 0.04


def test_blank_images_stay_blank_and_do_not_count(subtraction_set: Path, tmp_path: Path) -> None:
    """A third of the images blank: nothing is subtracted from these, nor do they say that too much was subtracted."""
    shutil.copytree(subtraction_set, tmp_path / "set")
    with mrcfile.open(tmp_path / "set" / "particles.mrcs", mode="r+") as stack:
        stack.data[::3] = 7.0
        stack.data[10, 3, 4] = np.inf
    whole, prepared, cut = made(subtraction_set)[0], *made(tmp_path / "set")
    rows = np.array([9, 10, 12])
    found, stored = torch.cat(list(new_images(prepared, cut, rows))), prepared.stored(rows)
    assert torch.equal(found[[0, 2]], stored[[0, 2]]) and found.isfinite().all()
    assert float((found[1] - stored[1]).std()) > 0.1 * float(stored[1].std())
    assert prepared.match.factor == pytest.approx(whole.match.factor, abs=0.02)
    assert abs(prepared.left) < 0.05


def test_moved_and_cut(subtraction_set: Path) -> None:
    """New pixel x of a box b shows old pixel x - b // 2 + d // 2 - n: the middle of the mask lies within half a pixel of the middle."""
    prepared, cut = made(subtraction_set, "mask.mrc", recenter_on_mask=True, box_size=16)
    plain = replace(cut, move=0 * cut.move, new=cut.old)
    old = torch.cat(list(new_images(prepared, plain, ROWS)))
    new = torch.cat(list(new_images(prepared, cut, ROWS)))
    assert new.shape == (4, 16, 16)
    for image, wide, row in zip(new, old, ROWS, strict=True):
        x, y = cut.move[row]
        rolled = torch.roll(wide, (int(y), int(x)), (0, 1))
        assert torch.equal(image, rolled[8:24, 8:24])
    mask = read_volume(subtraction_set / "mask.mrc")[0]
    assert np.allclose(cut.point, 4 * (centre_of_mass(mask) - 16), atol=1e-3)
    p = prepared.particles
    place = (p.rotation @ torch.from_numpy(cut.point).float())[:, :2] - p.shift
    assert float((place / 4 + torch.from_numpy(cut.move)).abs().max()) <= 0.5 + 1e-4
    beyond = np.abs(cut.move).max(1) > 8
    assert cut.wrapped == beyond.sum()
    assert replace(cut, new=cut.old).wrapped == (cut.move != 0).any(1).sum() > 50


def test_the_projected_mask_lies_in_the_middle(subtraction_set: Path) -> None:
    """Projections of the mask itself, moved as the images are, have their mass in the middle."""
    prepared, cut = made(subtraction_set, recenter_on_mask=True)
    p, mask = prepared.particles, read_volume(subtraction_set / "mask.mrc")[0]
    images = unpack(project(mask, p.rotation, p.shift / 4), 32)
    for image, (x, y) in zip(images, cut.move, strict=True):
        image = torch.roll(image, (int(y), int(x)), (0, 1))
        image = (image - image.quantile(0.5)).clamp_min(0.1 * float(image.max()))
        top = torch.nonzero(image == image.max())[0]
        assert (top - 16).abs().max() <= 2


@pytest.mark.parametrize(("way", "sign"), [("positive", -1.0), ("negative", 1.0), (None, None)])
def test_the_defocus_of_the_new_centre(subtraction_set: Path, way, sign) -> None:
    """What lies at z along the beam is seen as by a defocus less by z where the Ewald sphere is positive, see ``test_ewald``."""
    _, cut = made(subtraction_set, recenter_on_mask=True, defocus_height=way)
    if way is None:
        assert cut.height is None
        return
    prepared, _ = made(subtraction_set)
    z = (prepared.particles.rotation @ torch.from_numpy(cut.point).float())[:, 2].numpy()
    assert np.allclose(cut.height, sign * z, atol=1e-3) and np.abs(z).max() > 10
