"""What follows from the settings of the algorithm."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cryotorch.refinement.settings import (
    CtfTargets,
    EMSettings,
    ImageGrid,
    MaskSettings,
    ScheduleSettings,
    SearchSettings,
)


@pytest.mark.parametrize("name", ["tilt", "trefoil", "spherical", "tetra", "anisomag"])
def test_optics_are_refined_as_soon_as_one_of_their_numbers_is(name: str) -> None:
    none = CtfTargets(9.0, tilt=False, trefoil=False)
    assert not none.optics and replace(none, **{name: True}).optics


def test_the_grid_of_the_images_and_the_shells_in_common() -> None:
    parts = SearchSettings(), ScheduleSettings(4.0, 11.0), MaskSettings()
    settings = EMSettings(24, 4.0, torch.eye(3)[None], *parts, split=5.0, window=(10.0, 11.0))
    assert settings.grid == ImageGrid(24, 4.0, (10.0, 11.0))
    assert settings.in_common == 5.0
    assert replace(settings, shared=7.0).in_common == 7.0
    assert replace(settings, shared=3.0).in_common == 5.0


def test_a_window_as_wide_as_the_box_leaves_nothing_out() -> None:
    assert ImageGrid.whole(24, 4.0) == ImageGrid(24, 4.0, (24, 24))
