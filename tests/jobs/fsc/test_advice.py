"""Warnings of a validation: each appears for what it is about, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cryotorch.findings import Finding, codes
from cryotorch.jobs.fsc.advice import (
    curve_advice,
    dip,
    disagreement,
    insignificance,
    mask_advice,
    nothing_shared,
    unsupported,
)
from cryotorch.ops.masks.soft import grow_in_box, soft_sphere
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.claims import UNKNOWN, judge
from cryotorch.ops.resolution.shared_density import left_out, shared_density
from cryotorch.report.sentences import said, say

BOX, PIXEL, SHELLS, ONSET = 64, 2.0, 33, 10


def falling(middle: float) -> Tensor:
    """A smooth curve, 0.5 at a shell, 0.143 about two shells later."""
    return torch.sigmoid(middle - torch.arange(SHELLS).double())


def healthy(**changes: Tensor) -> dict[str, Tensor]:
    curves = {"no_mask": falling(14), "tight": falling(20), "corrected": falling(19.5)}
    curves["randomised"] = torch.where(torch.arange(SHELLS) < ONSET, curves["tight"], 0.01)
    return curves | changes


def advice(kind: str = "generated", **changes: Tensor) -> list[Finding]:
    return curve_advice(healthy(**changes), BOX, PIXEL, ONSET, kind)


def test_healthy_curves_need_no_words() -> None:
    assert advice() == []


def test_a_curve_that_never_falls_is_limited_by_the_pixel_size(only: Callable) -> None:
    flat = torch.full((SHELLS,), 0.4).double()
    flat[:15] = 1
    numbers = dict(threshold=0.143, nyquist=0.4, resolution=4.0)
    only(advice(corrected=flat), "never_falls", **numbers, doubtful=False)


def test_curves_of_half_maps_that_do_not_belong_together(only: Callable) -> None:
    nothing = torch.full((SHELLS,), 0.1).double()
    nothing[:2] = 1
    assert nothing_shared(nothing) and not nothing_shared(falling(5))
    only([disagreement(healthy(no_mask=nothing), BOX * PIXEL)], "nothing_shared", level=0.5)
    few = falling(2.5)  # 0.143 behind shell 4
    found = disagreement(healthy(no_mask=few, corrected=few), BOX * PIXEL)
    only([found], "agree_coarsely", resolution=32.0)
    # a mask may find what is hidden in the noise of the box
    assert disagreement(healthy(no_mask=few), BOX * PIXEL) is None
    coarse = torch.cat([falling(6), torch.zeros(100)])  # 7 shells of 133 in 500 Å
    found = disagreement(healthy(no_mask=coarse, corrected=coarse), 500.0)
    only([found], "agree_coarsely", resolution=71.4)
    assert disagreement(healthy(no_mask=coarse, corrected=coarse), 200.0) is None
    assert disagreement(healthy(), BOX * PIXEL) is None


def test_a_dip_points_at_the_mask_unless_the_maps_have_it_too(only: Callable) -> None:
    tight = falling(26)
    tight[12:15] = 0.4
    only(advice(tight=tight), "curve_dips", curve="tight", level=0.5, fall=10.67, rise=4.92)
    found = advice(tight=tight, no_mask=tight - 1e-3, corrected=tight)
    only(found, "curve_dips", curve="no_mask")


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


def test_random_phases_that_correlate_at_the_resolution(only: Callable) -> None:
    leaking = torch.where(torch.arange(SHELLS) < ONSET, 0.9, 0.25).double()
    only(advice(randomised=leaking), "random_phases_agree", fsc=0.25, level=0.1)
    # at the onset itself true signal leaks, whatever the mask
    near = falling(ONSET - 1.0)
    assert advice(corrected=near, no_mask=near, tight=near, randomised=leaking) == []


def test_a_mask_that_makes_things_worse(only: Callable) -> None:
    only(advice(no_mask=falling(22)), "mask_cuts", resolution=5.57)


def test_random_phases_that_begin_too_late(only: Callable) -> None:
    """The unmasked curve passes 0.5 at shell 14."""
    assert curve_advice(healthy(), BOX, PIXEL, 15, "generated") == []
    found = curve_advice(healthy(), BOX, PIXEL, 16, "generated")
    only(found, "random_phases_late", begin=8.0, level=0.5)


def test_the_remedy_for_a_given_mask_is_one_that_works_on_it() -> None:
    (made,), (given,) = (said(advice(kind, no_mask=falling(22))) for kind in ("generated", "given"))
    assert "lower threshold" in made and "volume_tools" not in made
    assert "job=volume_tools volume=<mask> dilate" in given and "threshold" not in given
    touching, tiny = soft_sphere(32, 15, 6), soft_sphere(32, 1.0, 1.0)
    assert "mask_far" not in say(mask_advice(touching, "given")[0])
    assert "threshold" not in say(mask_advice(tiny, "given")[0])


def test_a_job_without_parameters_for_its_mask_names_the_job_that_has_them() -> None:
    touching, tiny = soft_sphere(32, 15, 6), soft_sphere(32, 1.0, 1.0)
    found = [*mask_advice(touching, "fixed"), *mask_advice(tiny, "fixed")]
    found += advice("fixed", no_mask=falling(22))
    assert codes(found) == ["mask_at_faces", "mask_tiny", "mask_cuts"]
    assert all("job=validation_fsc volume=<this folder>" in w for w in said(found))


def test_masks_that_touch_the_box_or_hardly_exist(only: Callable) -> None:
    made = "generated"
    assert mask_advice(soft_sphere(32, 8, 4), made) == []
    only(mask_advice(soft_sphere(32, 15, 6), made), "mask_at_faces", kind=made)
    only(mask_advice(soft_sphere(32, 1.0, 1.0), made), "mask_tiny", fraction=0.0003, kind=made)
    shifted = soft_sphere(32, 8, 4).roll(-6, 2)  # towards the faces x = 0
    only(mask_advice(shifted, made), "mask_at_faces", value=0.5)
    ball = soft_sphere(32, 8, 0) > 0.5
    near, close, at_it = (grow_in_box(ball.roll(-n, 2), 2, 6)[0] for n in (4, 6, 8))
    assert mask_advice(near, made) == []  # four voxels are room for an edge, two and none are not
    only(mask_advice(close, made), "mask_at_faces", value=0.85)
    only(mask_advice(at_it, made), "mask_at_faces", value=1.0)


# --- Whole half maps ---


def test_good_half_maps_need_no_words(halves: Callable, tight: Callable, said_of: Callable) -> None:
    maps = halves(4.0)
    assert said_of(maps, tight(maps)) == []


def test_what_a_mask_leaves_out(halves: Callable, tight: Callable, said_of: Callable) -> None:
    maps = halves()
    half = tight(maps)
    half[..., 24:] = 0
    (lost,) = [w for w in said_of(maps, half) if w.code == "mask_leaves_out"]
    assert lost["kind"] == "generated" and "lower threshold" in say(lost)
    truth = phantom(48, 3.0, torch.eye(3)[None], 1).clamp(min=0).square()
    share = float(((1 - half) * truth).sum() / truth.sum())
    assert left_out(shared_density(maps, 3.0, 12.0), half) == pytest.approx(share, abs=0.03)
    assert lost["share"] == pytest.approx(share, abs=0.03)
    assert "mask_leaves_out" not in codes(said_of(-maps, half))
    (given,) = [w for w in said_of(maps, half, "given") if w.code == "mask_leaves_out"]
    assert "job=volume_tools" in say(given) and "unless it is to cover a part" in say(given)
    # one that is around a part on purpose
    assert "mask_leaves_out" not in codes(said_of(maps, half, "focus"))
    (cut,) = curve_advice(healthy(no_mask=falling(22)), BOX, PIXEL, ONSET, "focus")
    assert "wider" not in say(cut) and "the part inside it is resolved worse" in say(cut)


def test_noise_outside_a_mask_is_not_density_left_out(halves: Callable, tight: Callable) -> None:
    maps = halves(6.0)
    assert left_out(shared_density(maps, 3.0, 20.0), tight(maps, 0.2)) < 0.07


def test_half_maps_of_noise_hear_that_and_nothing_about_the_mask(
    noise: Callable, tight: Callable, said_of: Callable, only: Callable
) -> None:
    for seed in range(4):
        maps = noise(40, seed)
        only(said_of(maps, tight(maps, 0.5)), "nothing_shared", cause=Finding("cause_unknown"))


def test_the_same_map_twice(
    halves: Callable, tight: Callable, said_of: Callable, only: Callable
) -> None:
    maps = halves(0.5)
    maps[1] = 1.7 * maps[0] + 0.3
    only(said_of(maps, tight(maps)), "same_map")


def test_a_claim_far_finer_than_without_a_mask_is_the_masks(
    halves: Callable, tight: Callable
) -> None:
    maps = halves(4.0)
    mask = tight(maps)
    judged = judge(maps, 3.0, mask)
    assert unsupported(maps, judged, mask, 3.0) is None
    # as if a mask had made the half maps agree much further than they do
    bare = judged.curves["no_mask"].clone()
    bare[4:] = 0.0
    curves = judged.curves | {"no_mask": bare}
    found = unsupported(maps, judged._replace(curves=curves), mask, 3.0)
    assert found.code == "mask_correlates" and found["masked"] < found["bare"]


def test_noise_explains_what_lies_in_its_band(
    halves: Callable, tight: Callable, only: Callable
) -> None:
    maps = halves(4.0)
    judged = judge(maps, 3.0, tight(maps))
    assert insignificance(judged, 144.0, UNKNOWN) is None
    few = judged._replace(band=torch.ones(25), shell=None)
    only([insignificance(few, 144.0, UNKNOWN)], "within_noise", level=1.0, symmetric=False)
