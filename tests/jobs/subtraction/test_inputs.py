"""What a subtraction refuses, and the scale that it finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.subtraction.inputs import Prepared, prepare

PIXEL = 4.0


def given(folder: Path, **changes: object) -> Prepared:
    names = dict(particles="posed.star", volume="half", mask="mask.mrc")
    files = {k: str(folder / str(changes.pop(k, v))) for k, v in names.items()}
    return prepare(make_settings("subtract", **files, device="cpu", **changes))


def test_half_maps_are_subtracted_each_from_its_own(subtraction_set: Path) -> None:
    made = given(subtraction_set)
    assert not made.one_map and codes(made.told) == ["from_half_maps", "grey_scale"]
    assert made.match.factor == pytest.approx(1, abs=0.05) and abs(made.left) < 0.1
    assert not torch.equal(*made.made.outside)
    truth, mask = (read_volume(subtraction_set / f"{x}.mrc")[0] for x in ("truth", "mask"))
    outside = truth * (1 - mask)
    for found in made.made.outside:
        assert float((found - outside).square().sum() / outside.square().sum()) < 0.05
        assert not found[mask == 1].any()


def test_one_map_for_both_is_told(subtraction_set: Path) -> None:
    made = given(subtraction_set, volume="truth.mrc")
    assert made.one_map and "one_map_subtracted" in codes([x for x in made.told if x.serious])
    file = read_particles(subtraction_set / "posed.star")
    nobody = file.particles.replace(half=torch.full((60,), -1))
    bare = replace(file, tables={**file.tables, "particles": file.tables["particles"].copy()})
    bare.tables["particles"].pop("rlnRandomSubset")
    write_particles(subtraction_set / "no_halves.star", bare, nobody)
    assert given(subtraction_set, particles="no_halves.star", volume="truth.mrc").one_map
    with pytest.raises(InputError, match=r"without half set .* or one map"):
        given(subtraction_set, particles="no_halves.star")


def test_scales_that_are_not_those_of_the_map_are_told(subtraction_set: Path) -> None:
    """A map whose other half was made twice as strong fits its whole, and not what is outside the mask."""
    truth, size = read_volume(subtraction_set / "truth.mrc")
    mask = read_volume(subtraction_set / "mask.mrc")[0]
    write_volume(subtraction_set / "wrong.mrc", truth * (1 + 3 * mask), size)
    made = given(subtraction_set, volume="wrong.mrc")
    assert "subtraction_incomplete" in codes(made.told) and abs(made.left) > 0.2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(particles="particles.star"), "has no orientations"),
        (dict(box_size=64), "box_size=64 cannot be used: the images have 32 pixels"),
        (dict(invert=True), "correlate better with the inverted map"),
        (dict(volume="other.mrc"), "do not show volume=.*other.mrc at their poses"),
    ],
)
def test_refusals(subtraction_set: Path, changes: dict, said: str) -> None:
    if "volume" in changes:
        draw = torch.Generator().manual_seed(9)
        write_volume(subtraction_set / "other.mrc", torch.randn(32, 32, 32, generator=draw), PIXEL)
    with pytest.raises(InputError, match=said):
        given(subtraction_set, **changes)
