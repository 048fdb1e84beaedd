"""How far poses may go: units, defaults, and the point that they turn about."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.refinement.freedom import describe, extent_of, place_text

MASK = torch.zeros(32, 32, 32)
MASK[16, 16, 20] = 1  # x = 20, four pixels from the middle
PIXEL, EXTRACTED = 2.0, 1.0


def reach(**changes: object):
    return extent_of(make_settings("local_refine", **changes), MASK, PIXEL, EXTRACTED)


def test_extents_and_priors_are_in_radians_and_pixels() -> None:
    given = dict(rotation_extent=30, shift_extent=16, prior_rotation=10, prior_shift=4)
    found = reach(**given)
    assert found.rotation == pytest.approx(math.radians(30)) and found.shift == 4.0
    assert found.rotation_sigma == pytest.approx(math.radians(10)) and found.shift_sigma == 2.0
    said = "rotations up to 30°, shifts up to 8 Å from the start, priors of 10° and 4 Å"
    assert describe(found, PIXEL) == said
    wide = reach(rotation_extent=None, shift_extent=None, prior_rotation=5, prior_shift=2)
    assert wide.rotation == pytest.approx(math.radians(15)) and wide.shift == 3.0  # 3 sigma
    fixed = reach(prior_rotation=0, prior_shift=0, rotation_extent=None, shift_extent=None)
    assert (fixed.rotation, fixed.shift, fixed.rotation_sigma) == (0.0, 0.0, math.inf)
    with pytest.raises(InputError, match="shift_extent=65 cannot be used: the box is only 64 Å"):
        reach(shift_extent=65)


def test_a_fulcrum_counts_voxels_of_the_images_from_the_corner() -> None:
    assert reach(fulcrum="mask_center").fulcrum == (4.0, 0.0, 0.0)
    assert reach(fulcrum="box_center").fulcrum == (0.0, 0.0, 0.0)
    assert reach(fulcrum=[40, 32, 32]).fulcrum == (4.0, 0.0, 0.0)  # of 1 Å, in a box of 2 Å
    assert reach(fulcrum=["40A", "32A", "32A"]).fulcrum == (4.0, 0.0, 0.0)
    assert place_text([20.0, 16.0, 16.0], PIXEL).startswith("[20.0, 16.0, 16.0] voxels")
    with pytest.raises(InputError, match="it lies outside the box"):
        reach(fulcrum=[100, 0, 0])
