"""Limits and steps that follow from the particle's size."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.settings import ImageGrid

SETTINGS = AbInitioSettings(
    ImageGrid.whole(48, 4.0), torch.eye(3)[None], diameter=40.0, first_limit=5.5, last_limit=16.0
)


def test_the_soft_stage_ends_at_a_sixth_of_the_diameter() -> None:
    assert SETTINGS.soft_limit == pytest.approx(7.2)  # 6 shells over 40 of 48 pixels
    assert replace(SETTINGS, diameter=10.0).soft_limit == 16.0
    assert replace(SETTINGS, first_limit=9.0).soft_limit == 9.0


def test_larger_particles_get_finer_grids() -> None:
    steps = [
        replace(SETTINGS, diameter=d, grid=ImageGrid.whole(64, 4.0)).grid_step(8.0)
        for d in (20.0, 60.0, 300.0)
    ]
    assert [math.degrees(s) for s in steps] == pytest.approx([15.0, 11.46, 7.5], abs=0.01)


def test_starts_draw_other_numbers_and_the_same_again() -> None:
    a, b, again = (torch.rand(1, generator=SETTINGS.generator(n)) for n in (0, 1, 0))
    assert a == again and a != b
    assert torch.rand(1, generator=replace(SETTINGS, seed=1).generator(0)) != a
