"""Warnings of a validation: each appears for what it is about, and for nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.jobs.fsc.advice import advice as advise
from cryotorch.jobs.fsc.advice import (
    curve_advice,
    dip,
    disagreement,
    insignificance,
    mask_advice,
    nothing_shared,
    unsupported,
)
from cryotorch.jobs.fsc.half_map_advice import (
    frame_advice,
    masked_advice,
    offset_advice,
    power_advice,
)
from cryotorch.jobs.fsc.mask import FscMask
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import density_mask, grow_in_box, soft_sphere
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.claims import UNKNOWN, judge
from cryotorch.ops.resolution.shared_density import left_out, shared_density

BOX, PIXEL, SHELLS, ONSET = 64, 2.0, 33, 10


def falling(middle: float) -> Tensor:
    """A smooth curve, 0.5 at a shell, 0.143 about two shells later."""
    return torch.sigmoid(middle - torch.arange(SHELLS).double())


def healthy(**changes: Tensor) -> dict[str, Tensor]:
    curves = {"no_mask": falling(14), "tight": falling(20), "corrected": falling(19.5)}
    curves["randomised"] = torch.where(torch.arange(SHELLS) < ONSET, curves["tight"], 0.01)
    return curves | changes


def advice(kind: str = "generated", **changes: Tensor) -> list[str]:
    return curve_advice(healthy(**changes), BOX, PIXEL, ONSET, kind)


def only(said: list[str], *words: str) -> None:
    assert len(said) == 1 and all(word in said[0] for word in words), said


def test_healthy_curves_need_no_words() -> None:
    assert advice() == []


def test_a_curve_that_never_falls_is_limited_by_the_pixel_size() -> None:
    flat = torch.full((SHELLS,), 0.4).double()
    flat[:15] = 1
    only(advice(corrected=flat), "never falls below 0.143", "0.40 at Nyquist", "4.00 Å", "smaller")


def test_curves_of_half_maps_that_do_not_belong_together() -> None:
    nothing = torch.full((SHELLS,), 0.1).double()
    nothing[:2] = 1
    assert nothing_shared(nothing) and not nothing_shared(falling(5))
    said = disagreement(healthy(no_mask=nothing), BOX * PIXEL)
    assert "No resolution can be claimed" in said and "share next to nothing" in said
    few = falling(2.5)  # 0.143 behind shell 4
    assert "agree to 32 Å only" in disagreement(healthy(no_mask=few, corrected=few), BOX * PIXEL)
    # a mask may find what is hidden in the noise of the box
    assert disagreement(healthy(no_mask=few), BOX * PIXEL) == ""
    coarse = torch.cat([falling(6), torch.zeros(100)])  # 7 shells of 133 in 500 Å
    assert "agree to 71.4 Å only" in disagreement(healthy(no_mask=coarse, corrected=coarse), 500.0)
    assert disagreement(healthy(no_mask=coarse, corrected=coarse), 200.0) == ""
    assert disagreement(healthy(), BOX * PIXEL) == ""


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


def test_random_phases_that_begin_too_late() -> None:
    """The unmasked curve passes 0.5 at shell 14."""
    assert curve_advice(healthy(), BOX, PIXEL, 15, "generated") == []
    said = curve_advice(healthy(), BOX, PIXEL, 16, "generated")
    only(said, "begin at 8.00 Å", "below 0.5 already", "coarser randomise_below")


def test_the_remedy_for_a_given_mask_is_one_that_works_on_it() -> None:
    (made,), (given,) = (advice(kind, no_mask=falling(22)) for kind in ("generated", "given"))
    assert "lower threshold" in made and "volume_tools" not in made
    assert "job=volume_tools volume=<mask> dilate" in given and "threshold" not in given
    touching, tiny = soft_sphere(32, 15, 6), soft_sphere(32, 1.0, 1.0)
    assert "mask_far" not in mask_advice(touching, "given")[0]
    assert "threshold" not in mask_advice(tiny, "given")[0]


def test_a_job_without_parameters_for_its_mask_names_the_job_that_has_them() -> None:
    touching, tiny = soft_sphere(32, 15, 6), soft_sphere(32, 1.0, 1.0)
    said = [*mask_advice(touching, "fixed"), *mask_advice(tiny, "fixed")]
    said += advice("fixed", no_mask=falling(22))
    assert len(said) == 3 and all("job=validation_fsc volume=<this folder>" in w for w in said)


def test_masks_that_touch_the_box_or_hardly_exist() -> None:
    made = "generated"
    assert mask_advice(soft_sphere(32, 8, 4), made) == []
    only(mask_advice(soft_sphere(32, 15, 6), made), "reaches the edge of the box", "larger box")
    only(mask_advice(soft_sphere(32, 1.0, 1.0), made), "covers 0.0", "lower threshold")
    shifted = soft_sphere(32, 8, 4).roll(-6, 2)  # towards the faces x = 0
    only(mask_advice(shifted, made), "with a value of 0.5")
    ball = soft_sphere(32, 8, 0) > 0.5
    near, close, at_it = (grow_in_box(ball.roll(-n, 2), 2, 6)[0] for n in (4, 6, 8))
    assert mask_advice(near, made) == []  # four voxels are room for an edge, two and none are not
    only(mask_advice(close, made), "with a value of 0.85")
    only(mask_advice(at_it, made), "with a value of 1.00")


# --- Whole half maps ---


def noise(box: int, seed: int) -> Tensor:
    return torch.randn(2, box, box, box, generator=torch.Generator().manual_seed(seed))


def halves(level: float = 2.0) -> Tensor:
    truth = phantom(48, 3.0, torch.eye(3)[None], 1)
    return truth / truth.std() + level * noise(48, 1)


def said_of(maps: Tensor, mask: Tensor, kind: str = "generated") -> list[str]:
    judged = judge(maps, 3.0, mask, mask)
    return advise(maps, judged, FscMask(mask, kind), 3.0, UNKNOWN).warnings


def tight(maps: Tensor, threshold: float = 0.3) -> Tensor:
    return density_mask(maps.mean(0), 3.0, threshold, 6, 20, 12)


def test_good_half_maps_need_no_words() -> None:
    maps = halves(4.0)
    assert said_of(maps, tight(maps)) == []


def test_what_a_mask_leaves_out() -> None:
    maps = halves()
    half = tight(maps)
    half[..., 24:] = 0
    (lost,) = [w for w in said_of(maps, half) if "leaves out" in w]
    assert "lower threshold" in lost
    truth = phantom(48, 3.0, torch.eye(3)[None], 1).clamp(min=0).square()
    share = float(((1 - half) * truth).sum() / truth.sum())
    assert left_out(shared_density(maps, 3.0, 12.0), half) == pytest.approx(share, abs=0.03)
    assert f"leaves out {share:.0%}"[:11] in lost
    assert not [w for w in said_of(-maps, half) if "leaves out" in w]
    (given,) = [w for w in said_of(maps, half, "given") if "leaves out" in w]
    assert "job=volume_tools" in given and "unless it is to cover a part" in given


def test_noise_outside_a_mask_is_not_density_left_out() -> None:
    maps = halves(6.0)
    assert left_out(shared_density(maps, 3.0, 20.0), tight(maps, 0.2)) < 0.07


def test_half_maps_of_noise_hear_that_and_nothing_about_the_mask() -> None:
    for seed in range(4):
        maps = noise(40, seed)
        only(
            said_of(maps, tight(maps, 0.5)), "No resolution can be claimed", "share next to nothing"
        )


def test_the_same_map_twice() -> None:
    maps = halves(0.5)
    maps[1] = 1.7 * maps[0] + 0.3
    only(said_of(maps, tight(maps)), "almost the same map")


def test_a_mirrored_half_map() -> None:
    maps = halves()
    maps[1] = maps[1].flip(0)
    only(said_of(maps, tight(maps)), "mirror image", "flip_hand=true")


def test_a_shifted_half_map() -> None:
    maps = halves(1.0)
    maps[1] = maps[1].roll(4, 2)
    only(said_of(maps, tight(maps)), "shifted by about 1", "job=volume_tools shift")


@pytest.mark.parametrize("level", [2.0, 6.0, 12.0])
def test_half_maps_that_lie_on_each_other_are_left_in_peace(level: float) -> None:
    assert frame_advice(halves(level), 3.0) == "" and masked_advice(halves(level)) == []


def test_half_maps_of_unequal_power() -> None:
    maps = halves()
    assert power_advice(maps, 10, 3.0) == []
    maps[1] = low_pass(maps[1], 3.0, 16.0)
    only(said_of(maps, tight(maps)), "Half map A has", "times the power")
    only(power_advice(torch.stack([maps[0], 5 * maps[0]]), 10, 3.0), "Half map B has 25 times")


def test_a_constant_that_both_half_maps_carry() -> None:
    maps = halves(0.5)
    mask = tight(maps)
    assert offset_advice(maps, mask) == []
    only(offset_advice(maps + 10, mask), "solvent of both half maps is far from zero")
    assert offset_advice(maps + torch.tensor([10.0, 0])[:, None, None, None], mask) == []


def test_a_claim_far_finer_than_without_a_mask_is_the_masks() -> None:
    maps = halves(4.0)
    mask = tight(maps)
    judged = judge(maps, 3.0, mask)
    assert unsupported(maps, judged, mask, 3.0) == ""
    # as if a mask had made the half maps agree much further than they do
    bare = judged.curves["no_mask"].clone()
    bare[4:] = 0.0
    curves = judged.curves | {"no_mask": bare}
    assert "it is the mask that correlates" in unsupported(
        maps, judged._replace(curves=curves), mask, 3.0
    )


def test_noise_explains_what_lies_in_its_band() -> None:
    maps = halves(4.0)
    judged = judge(maps, 3.0, tight(maps))
    assert insignificance(judged, 144.0, UNKNOWN) == ""
    few = judged._replace(band=torch.ones(25), shell=None)
    assert "3 standard errors" in insignificance(few, 144.0, UNKNOWN)


def test_half_maps_that_were_masked_before() -> None:
    maps = halves()
    hard = density_mask(maps.mean(0), 3.0, 0.3, 3, 6, 12)
    only(said_of(maps * hard, tight(maps)), "constant in", "masked before")
    # corners that a program blanks are no mask
    ball = soft_sphere(48, 20, 4)
    assert masked_advice(maps * ball) == []
