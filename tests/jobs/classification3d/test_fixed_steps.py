"""The solvent mask of classes at fixed poses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from cryotorch.jobs.classification3d.fixed_steps import solvent_mask


def made_of(pooled: torch.Tensor, given: torch.Tensor | None = None, diameter=None) -> torch.Tensor:
    inputs: Any = SimpleNamespace(
        solvent=given,
        images=SimpleNamespace(box=32, pixel_size=6.0),
        settings=SimpleNamespace(particle_diameter=diameter),
    )
    return solvent_mask(inputs, pooled)


def test_the_mask_lies_around_the_density_in_the_sphere() -> None:
    pooled = torch.zeros(32, 32, 32)
    pooled[12:20, 14:18, 14:18] = 1
    mask = made_of(pooled)
    assert float(mask[10:22, 14:18, 14:18].min()) > 0.9
    assert float(mask[16, 16, 28]) < 0.05 and float(mask[1, 16, 16]) == 0
    small = made_of(pooled, diameter=36.0)
    assert float(small[16, 16, 16]) == 1 and float(small[21, 16, 16]) < 0.5


def test_a_map_of_nothing_has_the_sphere_and_a_given_mask_is_taken() -> None:
    sphere = made_of(torch.zeros(32, 32, 32))
    assert float(sphere[16, 16, 16]) == 1 and float(sphere[0].max()) == 0
    given = torch.rand(32, 32, 32)
    assert made_of(torch.zeros(32, 32, 32), given) is given
