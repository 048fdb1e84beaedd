"""What half maps say about themselves: masked already, mirrored, shifted, of unequal power."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.findings import Finding
from cryotorch.jobs.fsc.half_map_advice import (
    frame_advice,
    masked_advice,
    offset_advice,
    power_advice,
)
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import density_mask, soft_sphere


def test_a_mirrored_half_map(halves: Callable, tight: Callable, said_of: Callable) -> None:
    maps = halves()
    maps[1] = maps[1].flip(0)
    (found,) = said_of(maps, tight(maps))
    assert found["cause"] == Finding("half_map_mirrored")


def test_a_shifted_half_map(
    halves: Callable, tight: Callable, said_of: Callable, only: Callable
) -> None:
    maps = halves(1.0)
    maps[1] = maps[1].roll(4, 2)
    (found,) = said_of(maps, tight(maps))
    only([found["cause"]], "half_map_shifted")
    assert 10 <= found["cause"]["distance"] < 20


@pytest.mark.parametrize("level", [2.0, 6.0, 12.0])
def test_half_maps_that_lie_on_each_other_are_left_in_peace(level: float, halves: Callable) -> None:
    assert frame_advice(halves(level), 3.0) is None and masked_advice(halves(level)) == []


def test_half_maps_of_unequal_power(
    halves: Callable, tight: Callable, said_of: Callable, only: Callable
) -> None:
    maps = halves()
    assert power_advice(maps, 10, 3.0) == []
    maps[1] = low_pass(maps[1], 3.0, 16.0)
    only(said_of(maps, tight(maps)), "unequal_power", half="A")
    found = power_advice(torch.stack([maps[0], 5 * maps[0]]), 10, 3.0)
    only(found, "unequal_power", half="B", ratio=25.0)


def test_a_constant_that_both_half_maps_carry(
    halves: Callable, tight: Callable, only: Callable
) -> None:
    maps = halves(0.5)
    mask = tight(maps)
    assert offset_advice(maps, mask) == []
    only(offset_advice(maps + 10, mask), "solvent_offset")
    assert offset_advice(maps + torch.tensor([10.0, 0])[:, None, None, None], mask) == []


def test_half_maps_that_were_masked_before(
    halves: Callable, tight: Callable, said_of: Callable, only: Callable
) -> None:
    maps = halves()
    hard = density_mask(maps.mean(0), 3.0, 0.3, 3, 6, 12)
    only(said_of(maps * hard, tight(maps)), "masked_before")
    # corners that a program blanks are no mask
    ball = soft_sphere(48, 20, 4)
    assert masked_advice(maps * ball) == []
