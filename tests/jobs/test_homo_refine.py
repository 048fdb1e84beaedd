"""The job from outside: bad input is refused before anything is written, good options do what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryotorch.errors import InputError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(particles="missing.star"), r"missing\.star does not exist"),
        (
            dict(particles="nan.star"),
            r"Image 40 of .*nan\.mrcs has 208 of 256 pixels that are not finite",
        ),
        (dict(particles="flat.star"), r"Image 1 of .*flat\.mrcs is blank"),
        (dict(particles="one_half.star"), "is 1 for all 40 particles.*half_sets=resplit"),
        (dict(volume="missing.mrc"), r"missing\.mrc does not exist"),
        (dict(volume="blank.mrc"), r"volume=.*blank\.mrc is blank"),
        (
            dict(volume="unknown_box.mrc"),
            r"volume=.* has 12 voxels per edge but the particles have 16",
        ),
        (dict(volume="elsewhere.mrc"), r"volume=.* lies .* from the middle .* outside the box"),
        (dict(volume="inverted.mrc"), "contrast is opposite: change invert"),
        (dict(mask="mask255.mrc"), r"mask=.* values from 0 to 1, got 0 to 255"),
        (dict(mask="unknown_mask.mrc"), r"mask=.* has 12 voxels"),
        (dict(symmetry="Q3"), "symmetry=Q3 cannot be used"),
        (dict(box_size=18), "box_size must be even and at most 16, got 18"),
        (dict(initial_resolution=5000), r"initial_resolution=5000.* at most 48 Å"),
        (dict(max_align_resolution=90), r"max_align_resolution=90.* at most 48 Å"),
        (dict(split_resolution=5), r"split_resolution=5.* above 12 Å"),
        (dict(particle_diameter=200), r"particle_diameter=200.* 96 Å wide"),
        (dict(particle_diameter=20), r"particle_diameter=20 .* at least 4 pixels, 24 Å"),
        (dict(search__shift_extent="20px"), r"search.shift_extent=120.* 48 Å from its middle"),
        (dict(trainer__devices=0), "no trainer with .*trainer.devices=0"),
        (
            dict(trainer__accelerator="quantum"),
            "trainer.accelerator must be auto or cpu or gpu or cuda",
        ),
        (dict(trainer__precision="16-mixed"), "trainer.precision=16-mixed .* needs 32-true"),
        (dict(resume=True), "resume=true finds no run"),
    ],
    ids=lambda value: (
        "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else ""
    ),
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict, message: str, refine: Callable
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        refine(tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(particles="posed.star"), "are not used, the search is global"),
        (dict(volume="resampled.mrc"), "resampled from 16 voxels per edge of 5.4 Å to 16 voxels"),
        (dict(volume="inverted.mrc", invert=True), r"inverted.mrc looks inverted"),
        (dict(volume="off_axes.mrc", symmetry="D2"), "not D2 about the axes"),
        (dict(half_sets="resplit", particles="one_half.star"), "20 and 20 particles"),
        (
            dict(mask="mask.mrc", mask_mode="static", bfactor=-100.0, minibatch_size=1),
            "of 16 pixels",
        ),
        (
            dict(mask_mode="none", search__posterior="best_pose", normalize=True, box_size=14),
            "40 particles of 14 pixels",
        ),
    ],
    ids=["poses", "resampled", "inverted", "symmetry", "resplit", "static", "none"],
)
def test_options_do_what_they_say(
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict,
    said: str,
    refine: Callable,
) -> None:
    out = refine(tmp_path / "out", **changes)
    shown = capsys.readouterr()
    assert said in shown.out and shown.err == ""
    assert (out / "mask_refine.mrc").exists() == (changes.get("mask_mode") != "none")
    if "bfactor" in changes:
        mask = mrcfile.read(inputs / "mask.mrc")
        assert np.allclose(mrcfile.read(out / "mask_refine.mrc"), mask, atol=1e-6)


def test_the_folder_of_a_run_stands_for_its_map(
    tmp_path: Path, refine: Callable, finished: Path
) -> None:
    """With a mask too, which is placed by the header of the map."""
    given = dict(mask="mask.mrc", mask_mode="static")
    for name, volume in (("folder", finished), ("file", finished / "map.mrc")):
        refine(tmp_path / name, volume=volume, **given)
    assert np.array_equal(*(mrcfile.read(tmp_path / n / "map.mrc") for n in ("folder", "file")))
    with pytest.raises(InputError, match=r"volume=.* holds no map"):
        refine(tmp_path / "out", volume=tmp_path)
