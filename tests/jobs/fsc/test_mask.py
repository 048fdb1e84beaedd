"""The mask behind masked curves: made, given, softened, tightened. ``tests/jobs/test_validation_fsc.py`` has it in whole commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.manifest import Manifest
from cryotorch.jobs.fsc.mask import (
    FscMask,
    at_faces,
    find_mask,
    given_mask,
    make_mask,
    mask_summary,
    softened,
    sphere_mask,
    tightened,
)
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import first_randomised_shell, shell_correlation

BOX, PIXEL = 48, 3.0
BALL = soft_sphere(BOX, 10, 1)  # 30 Å wide


def test_a_made_mask_is_whole_near_the_density_and_ends_far_from_it() -> None:
    """On a line from the middle: 1 up to 30 + 6 Å, 0 from 30 + 15 Å on, within a voxel."""
    made = make_mask(BALL, PIXEL, 0.5, 6, 15)
    line = made.mask[24, 24, 24:]
    assert float(line[:12].min()) == 1 and float(line[16:].max()) == 0
    assert 0 < float(line[13]) < 1 and (made.kind, made.near, made.far) == ("generated", 6, 15)
    assert made.warnings == [] and int(made.region.sum()) == pytest.approx(4189, rel=0.2)


def test_an_absolute_threshold_is_on_the_grey_scale_of_the_map() -> None:
    relative, absolute = (
        make_mask(7 * BALL, PIXEL, level, 6, 15, rel) for level, rel in ((0.5, True), (3.5, False))
    )
    assert float((relative.mask - absolute.mask).abs().mean()) < 0.01


def test_without_density_there_is_no_mask_and_inverted_density_is_told() -> None:
    with pytest.raises(
        InputError, match="Change threshold, give mask=<file>, or add generate_mask"
    ):
        make_mask(BALL, PIXEL, 50.0, 6, 15, relative=False)
    dark = 0.2 * soft_sphere(BOX, 4, 1).roll(14, 0) - BALL
    assert codes(make_mask(dark, PIXEL, 0.5, 6, 12).warnings) == ["half_maps_inverted"]


@pytest.mark.parametrize(("bare", "far"), [(5.0, 15.0), (14.0, 20.0), (99.0, 26.0)])
def test_the_edge_is_as_wide_as_the_resolution_without_a_mask(bare: float, far: float) -> None:
    """20 Å at most, and never narrower than it was."""
    made = softened(make_mask(BALL, PIXEL, 0.5, 6, 15), PIXEL, bare)
    assert (made.near, made.far) == (6, far)
    ends = 10 + far / PIXEL
    assert float(made.mask[24, 24, 24:][int(ends) - 1]) > 0
    assert float(made.mask[24, 24, 24:][int(ends) + 2]) == 0


def test_a_mask_without_room_or_region_stays_as_it_is() -> None:
    large = make_mask(soft_sphere(BOX, 20, 1), PIXEL, 0.5, 6, 8)
    assert softened(large, PIXEL, 20.0) is large  # the box ends at 24
    given = FscMask(BALL, "given")
    assert softened(given, PIXEL, 20.0) is given


def test_the_sphere_is_that_of_the_spherical_curve() -> None:
    made = sphere_mask(BALL)
    torch.testing.assert_close(made.mask, soft_sphere(BOX, 0.85 * 24, 0.15 * 24))
    assert str(made).startswith("a soft sphere, ") and made.kind == "sphere"


def test_numbers_of_a_mask() -> None:
    half = torch.zeros(4, 4, 4)
    half[:2] = 1
    made = FscMask(half, "generated", 6.0, 12.0, tightened=True)
    assert str(made) == "generated, tightened, 1 within 6 Å and 0 beyond 12 Å, 50.0% of the box"
    numbers = mask_summary(made, "m.mrc", 2.0)
    assert (numbers["fraction_of_box"], numbers["volume"]) == (0.5, 32 * 8)
    assert (numbers["file"], numbers["near"], numbers["far"]) == ("m.mrc", 6.0, 12.0)


def test_the_largest_value_on_the_faces() -> None:
    mask = torch.zeros(8, 8, 8)
    mask[4, 7, 3], mask[1, 4, 4] = 0.25, 0.75
    assert (at_faces(mask), at_faces(mask, 1)) == (0.25, 0.75)


def test_a_loose_mask_is_drawn_in_around_its_density(halves: Callable) -> None:
    """Leaving out solvent gains, and the table of what was tried tells the same."""
    maps = halves(6.0)
    no_mask = shell_correlation(*maps)
    onset = first_randomised_shell(no_mask)
    settings = make_settings("validation_fsc", mask_near=18, mask_far=30)
    loose = make_mask(maps.mean(0), PIXEL, 0.5, 18, 30)
    found = tightened(loose, maps, PIXEL, onset, settings, no_mask)
    assert found.tightened and found.near < 12 and found.fraction < 0.7 * loose.fraction
    taken = [c for c in found.candidates if c.accepted]
    assert (taken[0].near, taken[-1].near) == (18, found.near)
    assert taken[-1].resolution < 0.8 * taken[0].resolution
    with pytest.raises(InputError, match="nowhere deeper than 48 Å"):
        far = make_settings("validation_fsc", mask_near=36, mask_far=60)
        tightened(FscMask(BALL, "given"), maps, PIXEL, onset, far, no_mask)


def test_the_mask_given_goes_before_that_of_the_folder_and_that_before_a_new_one(
    tmp_path: Path,
) -> None:
    for name, radius in (("mine", 12), ("mask_fsc", 14)):
        write_volume(tmp_path / f"{name}.mrc", soft_sphere(BOX, radius, 4), PIXEL)
    shape, paths = (0.5, 6.0, 15.0), (Path("a.mrc"), Path("b.mrc"))
    inside, named = (HalfMaps(BALL.repeat(2, 1, 1, 1), PIXEL, paths, f) for f in (tmp_path, None))
    mine = f"{tmp_path}/mine.mrc"
    made, path = find_mask(inside, BALL, 5.0, mine, False, shape)
    assert path == mine and torch.equal(made.mask, soft_sphere(BOX, 12, 4))
    made, path = find_mask(inside, BALL, 5.0, None, False, shape)
    assert path == f"{tmp_path}/mask_fsc.mrc" and torch.equal(made.mask, soft_sphere(BOX, 14, 4))
    made, path = find_mask(named, BALL, 5.0, None, False, shape)
    assert path is None and (made.kind, made.near, made.far) == ("generated", 6, 15)
    assert given_mask(mine, named, False, torch.device("cpu")).kind == "given"
    for job, kind in (("homo_refine", "given"), ("local_refine", "focus")):
        Manifest(job, ("a.mrc",)).write(tmp_path)
        write_volume(tmp_path / "a.mrc", BALL, PIXEL)
        halves = replace(inside, paths=(tmp_path / "a.mrc", tmp_path / "b.mrc"))
        made = given_mask(mine, halves, False, torch.device("cpu"))
        assert made.kind == kind and str(made).startswith("given")
