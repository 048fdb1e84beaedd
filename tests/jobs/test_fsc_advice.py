"""Warnings of a validation: each appears for what it is about, and for nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.jobs.fsc_advice import curve_advice, dip, mask_advice
from cryotorch.ops.masks import soft_sphere

BOX, PIXEL, SHELLS, ONSET = 64, 2.0, 33, 10


def falling(middle: float) -> Tensor:
    """A smooth curve, 0.5 at a shell, 0.143 about two shells later."""
    return torch.sigmoid(middle - torch.arange(SHELLS).double())


def healthy(**changes: Tensor) -> dict[str, Tensor]:
    curves = {"no_mask": falling(14), "tight": falling(20), "corrected": falling(19.5)}
    curves["randomised"] = torch.where(torch.arange(SHELLS) < ONSET, curves["tight"], 0.01)
    return curves | changes


def advice(**changes: Tensor) -> list[str]:
    return curve_advice(healthy(**changes), BOX, PIXEL, ONSET)


def only(said: list[str], *words: str) -> None:
    assert len(said) == 1 and all(word in said[0] for word in words), said


def test_healthy_curves_need_no_words() -> None:
    assert advice() == []


def test_a_curve_that_never_falls_is_limited_by_the_pixel_size() -> None:
    flat = torch.full((SHELLS,), 0.4).double()
    flat[:15] = 1
    only(advice(corrected=flat), "never falls below 0.143", "0.40 at Nyquist", "4.00 Å", "smaller")


def test_almost_the_same_map_twice() -> None:
    ones = torch.full((SHELLS,), 0.9999).double()
    only(advice(no_mask=ones, tight=ones, corrected=ones, randomised=falling(5)), "almost the same")


def test_half_maps_that_do_not_belong_together() -> None:
    nothing = torch.zeros(SHELLS).double()
    nothing[0] = 1
    said = advice(no_mask=nothing, tight=nothing, corrected=nothing, randomised=nothing)
    only(said, "agree to 128 Å only", "same frame", "hand")


def test_a_dip_points_at_the_mask_unless_the_maps_have_it_too() -> None:
    tight = falling(26)
    tight[12:15] = 0.4
    only(advice(tight=tight), "with the mask falls below 0.5 at 10.67 Å", "4.92 Å", "too tight")
    only(advice(tight=tight, no_mask=tight - 1e-3, corrected=tight), "without a mask falls", "ice")


def test_a_dip_takes_more_than_a_wobble() -> None:
    curve = falling(15)
    assert dip(curve) == (0, 0)
    curve[18:20] = 0.55  # two shells: chance
    assert dip(curve) == (0, 0)
    curve[18:21] = 0.55
    assert dip(curve) == (16, 20)
    low_first = falling(15)
    low_first[1] = 0.2  # what the window of the images does
    assert dip(low_first) == (0, 0)


def test_random_phases_that_correlate_at_the_resolution() -> None:
    leaking = torch.where(torch.arange(SHELLS) < ONSET, 0.9, 0.25).double()
    only(advice(randomised=leaking), "randomised phases is 0.25", "too tight or too sharp")
    # at the onset itself true signal leaks, whatever the mask
    near = falling(ONSET - 1.0)
    assert advice(corrected=near, no_mask=near, tight=near, randomised=leaking) == []


def test_a_mask_that_makes_things_worse() -> None:
    only(
        advice(no_mask=falling(22)),
        "Without a mask the half maps agree further, to 5.57 Å",
        "cuts density off",
    )


def test_masks_that_touch_the_box_or_hardly_exist() -> None:
    assert mask_advice(soft_sphere(32, 8, 4)) == []
    only(mask_advice(soft_sphere(32, 15, 6)), "reaches the edge of the box", "larger box")
    only(mask_advice(soft_sphere(32, 1.0, 1.0)), "covers 0.0", "lower threshold")
    shifted = soft_sphere(32, 8, 4).roll(-6, 2)  # towards the faces x = 0
    only(mask_advice(shifted), "with a value of 0.5")
