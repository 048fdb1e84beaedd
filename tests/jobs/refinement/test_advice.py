"""The judge at the end of an iteration: what a run may claim, and whether it has settled."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cryotorch.findings import Finding, codes
from cryotorch.jobs.files.ending import claim_line
from cryotorch.jobs.refinement.advice import (
    convergence_advice,
    judged,
    sharpening_advice,
    with_advice,
)
from cryotorch.ops.geometry.directions import random_views
from cryotorch.ops.masks.soft import density_mask
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.claims import Background, judge
from cryotorch.particles import Optics, unposed
from cryotorch.report.summary import ending
from cryotorch.results import Guinier, IterationResult

BOX, PIXEL, N = 48, 3.0, 20


def halves(level: float) -> Tensor:
    truth = phantom(BOX, PIXEL, torch.eye(3)[None], 1)
    noise = torch.randn(2, BOX, BOX, BOX, generator=torch.Generator().manual_seed(1))
    return truth / truth.std() + level * noise


def result(maps: Tensor, shared: float = 5.0, **changes: object) -> IterationResult:
    mask = density_mask(maps.mean(0), PIXEL, 0.3, 6, 20, 12)
    found = judge(maps, PIXEL, mask, mask, Background(shared=shared))
    none = torch.zeros(BOX // 2 + 1)
    optics = Optics(*[torch.tensor([v]) for v in (300.0, 2.7, 0.1, PIXEL)])
    sigma = torch.full((N, 2), math.radians(0.5))
    whole = IterationResult(
        iteration=3,
        pixel_size=PIXEL,
        half_maps=maps,
        map=maps[0],
        map_sharp=maps[0],
        mask_refine=None,
        mask_fsc=mask,
        curves=found.curves,
        resolutions=found.resolutions,
        resolution=found.resolution,
        noise=none[None, None],
        guinier=Guinier(none, none, none > 0, None, math.nan),
        particles=unposed(N, optics).replace(
            pose_sigma=sigma, rotation=random_views(N, generator=torch.Generator().manual_seed(1))
        ),
        rotation_change=torch.full((N,), 0.3),
        shift_change=torch.full((N,), 0.1),
        seconds={},
        history=[{"resolution": r} for r in (20.0, 1.1 * found.resolution, found.resolution)],
        final=True,
        band=found.band,
        shared=shared,
    )
    return replace(whole, **changes)


def conclusion(found: IterationResult) -> str:
    return claim_line(found.resolution, ending(found))


def test_a_good_run_claims_its_resolution_without_a_word() -> None:
    good = result(halves(4.0))
    found = judged(good, "generated")
    assert found.claims and found.warnings == []
    assert with_advice(good, found, set()).resolution == good.resolution < 9
    assert conclusion(good).startswith(f"Resolution {good.resolution:.2f} Å")


def test_a_mirrored_half_map_is_no_resolution_whatever_the_curve_says() -> None:
    maps = halves(1.0)
    maps[1] = maps[1].flip(0)
    wrong = result(maps)
    found = judged(wrong, "generated")
    told = with_advice(wrong, found, set())
    assert not found.claims and found.warnings[0]["cause"] == Finding("half_map_mirrored")
    assert math.isnan(told.resolution) and all(map(math.isnan, told.resolutions.values()))
    assert math.isnan(told.history[-1]["resolution"]) and told.history[-2] == wrong.history[-2]
    assert told.messages[-1] == found.warnings[0] and told.warnings == found.warnings
    assert conclusion(told) == "No resolution can be claimed, see the warnings"
    assert with_advice(wrong, found, set(found.warnings)).messages == wrong.messages


@pytest.mark.parametrize(
    "doubt",
    [Finding("no_hand", resolution=12.3, symmetry="I"), Finding("hands_differ", errors=5.0)],
    ids=lambda doubt: doubt.code,
)
def test_poses_in_both_hands_have_no_resolution_whatever_the_curve_says(doubt: Finding) -> None:
    found = result(halves(0.05), messages=[doubt])
    said = judged(found, "generated")
    assert not said.claims and said.warnings[-1] == doubt and said.warnings.count(doubt) == 1
    assert math.isnan(with_advice(found, said, set()).resolution)


def test_agreement_up_to_a_common_reference_is_none() -> None:
    maps = halves(4.0)
    reach = BOX * PIXEL / result(maps).resolution
    near = result(maps, shared=reach - 2)
    found = judged(near, "generated")
    assert not found.claims and codes(found.warnings) == ["aligned_to_one_map"]


def test_in_between_only_the_claim_is_judged() -> None:
    maps = halves(1.0)
    maps[1] = maps[1].flip(0)
    assert judged(result(maps, final=False), "generated").warnings == []


def test_the_limit_of_the_pixel_size_is_that_of_a_curve_that_ends_above() -> None:
    fine = result(halves(0.3))
    assert (fine.curves["corrected"] > 0.143).all()
    assert conclusion(fine).endswith("the limit of the pixel size")
    curve = fine.curves["corrected"].clone()
    curve[-1] = 0.1
    assert "limit" not in conclusion(replace(fine, curves=fine.curves | {"corrected": curve}))
    noise = replace(fine, resolution=BOX * PIXEL / (BOX // 2 - 2))
    assert conclusion(noise).endswith("beyond it the half maps agree no further than noise may")


@pytest.mark.parametrize(
    ("history", "turn", "resolution", "poses"),
    [
        ((9.0, 6.1), 0.3, (9.0, 6.1), None),
        ((6.1, 9.0), 0.3, (6.1, 9.0), None),
        ((math.nan, 9.0), 0.3, (math.nan, 9.0), None),
        ((9.0, 8.0), 5.0, None, (5.0, 0.5)),
        ((9.0, 8.0), 1.4, None, None),
        ((9.0, 8.0), math.nan, None, None),
        ((8.0,), 0.3, None, None),
    ],
)
def test_a_run_that_has_not_settled_says_so(
    history: tuple, turn: float, resolution: tuple | None, poses: tuple | None
) -> None:
    rows = [{"resolution": value} for value in history]
    moved = torch.full((N,), turn)
    found = convergence_advice(result(halves(4.0), history=rows, rotation_change=moved))
    assert codes(found) == (["not_converged"] if resolution or poses else [])
    for name, numbers in (("resolution", resolution), ("poses", poses)):
        if numbers:
            values = tuple(found[0][name].values.values())
            assert values == pytest.approx(numbers, nan_ok=True, rel=1e-3)


@pytest.mark.parametrize(
    "bfactor, shells, applied, doubt",
    [
        (-300.0, 20, -300.0, None),
        (-300.0, 20, -50.0, None),  # the user's own
        (-852.0, 8, -852.0, "few_shells"),
        (-1500.0, 20, -1500.0, "steep"),
    ],
)
def test_a_b_factor_that_tells_little_is_told(
    bfactor: float, shells: int, applied: float, doubt: str | None
) -> None:
    used = torch.arange(25) >= 25 - shells
    place = torch.arange(1.0, 26.0).square() / 150**2
    fit = Guinier(place, torch.zeros(25), used, bfactor, 0.0, applied=applied)
    found = sharpening_advice(SimpleNamespace(guinier=fit))
    assert codes(found) == (["run_bfactor_uncertain"] if doubt else [])
    if doubt:
        assert found[0]["bfactor"] == bfactor and codes(found[0]["doubts"]) == [doubt]
