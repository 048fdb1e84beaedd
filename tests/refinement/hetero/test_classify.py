"""Classes at fixed poses: two states are told apart nearly as well as with true maps, and one is not called two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryotorch.ops.fourier.slices import projector
from cryotorch.refinement.class_shares import agreement
from cryotorch.refinement.hetero.classify import Classified, Masks, classify, held_out
from cryotorch.refinement.hetero.fixed_poses import compare
from cryotorch.refinement.hetero.part import ClassPart
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team
from tests.refinement.hetero.test_settings import made


def classes_of(world, image: torch.Tensor | None = None, **more) -> Classified:
    n = len(world.images)
    part = ClassPart(world.images, n, 1, world.settings, team := Team())
    image = torch.arange(n) if image is None else image
    return classify(part, image, world.masks, world.settings, team=team, **more)


def test_two_states_are_told_apart(two_states: Callable) -> None:
    world = two_states(600, snr=0.5)
    found = classes_of(world)
    given = [projector(volume, limit=world.settings.limit) for volume in world.maps]
    best = (compare(world.images, [given]) + torch.tensor([0.6, 0.4]).log()).argmax(1)
    bayes = float((best == world.state).float().mean())
    same = agreement(world.state, found.share.argmax(1), 2)
    assert bayes > 0.9 and same.share > bayes - 0.03
    assert found.verdict.seen and found.verdict.images == 120
    assert found.halves.classes.shape == (2, 2, 24, 24, 24)
    # the larger one first
    assert float(found.share.mean(0)[0]) == pytest.approx(0.6, abs=0.05)
    assert same.order.tolist() == [0, 1]


@pytest.mark.parametrize("what", ["noise", "one map", "one map, other strengths"])
def test_one_state_is_not_called_two(two_states: Callable, what: str) -> None:
    if what == "noise":
        world = two_states(400, noise_only=True)
    else:
        world = two_states(400, snr=1.0, change=0.0)
    if what.endswith("strengths"):  # half of the images hardly show anything
        images = world.images
        faint = (torch.arange(400) % 2 == 0)[:, None]
        noise = torch.randn(*images.weight.shape, 2, generator=torch.Generator().manual_seed(7))
        y = torch.view_as_complex(noise) / 2**0.5
        numerator = torch.where(faint, y * images.weight.sqrt(), images.numerator)
        power = torch.where(faint, y.abs().square(), images.power)
        world = replace(world, images=replace(images, numerator=numerator, power=power))
    found = classes_of(world)
    assert not found.verdict.seen and found.verdict.lead < 3


def test_a_run_goes_on_from_what_was_kept(two_states: Callable) -> None:
    world = two_states(200, snr=2.0)
    kept = Kept()
    names: list[str] = []
    kept.changed = lambda name, value: names.append(name)
    first = classes_of(world, kept=kept)
    assert names[0] == "starts/0.0" and names[-1] == "runs/0" and "passes/0" in names
    again = classes_of(world, kept=Kept(kept.values))
    assert torch.equal(first.share, again.share)
    del kept.values["runs/0"]
    assert torch.equal(first.share, classes_of(world, kept=Kept(kept.values)).share)


def test_runs_are_compared(two_states: Callable) -> None:
    world = two_states(400, snr=1.0, n_repeats=2, n_starts=2)
    found = classes_of(world)
    assert len(found.agreement) == 1 and found.agreement[0].beyond_chance > 0.9


def test_all_rows_of_an_image_are_left_out_together() -> None:
    image = torch.arange(1000) % 250
    left = held_out(image, made())
    assert torch.equal(left[:250], left[250:500]) and int(left.sum()) == 200


def test_masks_of_another_box_cover_the_same() -> None:
    mask = torch.zeros(24, 24, 24)
    mask[8:17, 8:17, 8:17] = 1
    small = Masks(mask).resampled(16)
    assert small.focus is None and small.solvent.shape == (16, 16, 16)
    assert float(small.solvent.mean()) == pytest.approx(float(mask.mean()), rel=0.15)
    assert float(small.solvent[8, 8, 8]) == pytest.approx(1, abs=0.05)
