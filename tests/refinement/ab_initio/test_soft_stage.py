"""The soft stage finds a molecule from random maps, and two molecules apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.symmetry import in_asymmetric_unit, point_group
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.ab_initio import soft_stage as module
from cryotorch.refinement.ab_initio.judge import judge
from cryotorch.refinement.ab_initio.soft_stage import Course, shifts_at, soft_stage


def test_limit_and_width_follow_the_schedule(begin: Callable) -> None:
    settings = begin(20, soft_steps=41).settings
    limits, sizes = zip(*(Course.of_start(settings).at(step) for step in range(41)), strict=True)
    assert limits[0] == limits[10] == 4.0 and limits[-1] == pytest.approx(settings.soft_limit)
    assert sizes[0] == pytest.approx(0.01) and sizes[-1] == pytest.approx(1e-4)
    assert list(limits) == sorted(limits) and list(sizes) == sorted(sizes, reverse=True)


def test_shifts_reach_as_far_as_asked(begin: Callable) -> None:
    settings = begin(20).settings
    shifts = shifts_at(settings, 4.0, torch.device("cpu"))
    assert float(shifts.norm(dim=1).max()) <= 2.2 and len(shifts) >= 5


def test_a_molecule_is_found_from_random_maps(begin: Callable) -> None:
    world = begin(400, snr=0.5, soft_steps=20)
    steps = []
    found = soft_stage(world.images, world.settings, 0, steps.append)
    assert steps == list(range(20))
    fit = fit_map(found.maps.volumes[0], world.volume, 6.0, 24.0)
    assert fit.correlation > 0.8


def test_a_bank_with_symmetry_covers_the_asymmetric_unit(begin: Callable) -> None:
    settings = begin(20, group=point_group("O"), symmetry="O").settings
    course = Course.with_symmetry(settings)
    (first, last), views = course.limits, course.rotations(6.0, settings)[:, 2]
    assert first == pytest.approx(settings.soft_limit) and first <= last <= settings.last_limit
    assert bool(in_asymmetric_unit(views.double(), settings.group).all())
    alone = Course.of_start(settings).rotations(6.0, settings)
    assert 0.15 < len(views) / len(alone) < 1.2  # 24 times fewer views, at a finer step


def test_classes_stay_as_likely_whatever_their_shares(
    begin: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their shares as a prior the largest swallows the others before maps are good enough to tell species apart."""
    world, given = begin(120, n_classes=3, soft_steps=4, batch=30), []
    made = module.make_bank

    def watched(volumes, rotation, limit, share, settings):
        given.append(share)
        return made(volumes, rotation, limit, share, settings)

    monkeypatch.setattr(module, "make_bank", watched)
    found = soft_stage(world.images, world.settings, 0)
    assert float(found.share.max()) > 0.34 and float(found.share.sum()) == pytest.approx(1)
    for share in given:
        torch.testing.assert_close(share, torch.full((3,), 1 / 3))


def test_two_molecules_are_told_apart(begin: Callable) -> None:
    """60 to 40, and neither class takes both."""
    one = begin(360, snr=0.5, n_classes=2, soft_steps=25)
    other = begin(240, snr=0.5, symmetry="D3")
    spectrum, gain, precision = (
        torch.cat([getattr(one.images, name), getattr(other.images, name)])
        for name in ("spectrum", "gain", "precision")
    )
    images = Observation(spectrum, gain, precision, one.images.box)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(5))
    first = order < 360
    found = soft_stage(images.of(order), one.settings, 0)
    sphere = torch.ones(24, 24, 24)
    about = found.share, one.settings, found.inverse_temperature, sphere
    told = judge(images.of(order), found.maps.volumes, *about)
    best = (told.of_class + told.prior).argmax(1) == 0
    right = float((best == first).float().mean())
    assert max(right, 1 - right) > 0.9
