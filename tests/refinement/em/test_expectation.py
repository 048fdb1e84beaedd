"""The E-step: what it finds of images whose truth is known."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cryotorch.ops.fourier.slices import merge_
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.masks.soft import soft_circle
from cryotorch.ops.pose.scores import residual_power
from cryotorch.particles import Batch
from cryotorch.refinement.em import expectation as module
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.initialise import initialise_state
from cryotorch.refinement.em.iteration import expect
from cryotorch.refinement.em.update import noise_power
from cryotorch.refinement.settings import ScheduleSettings

CPU = torch.device("cpu")
PACKAGE = str(Path(module.__file__).parents[2])


def test_planted_noise_is_recovered_in_every_half_and_group(
    simulate: Callable, start: Callable, e_step: Callable
) -> None:
    """The second half of the particles, the second optics group, is three times as noisy."""
    world = simulate(120, 2.0, groups=2, schedule=ScheduleSettings(9.0, 11.0))
    noise = torch.randn(world.images.shape, generator=torch.Generator().manual_seed(9))
    world.images[60:] += 8**0.5 * noise[60:]
    found = e_step(world, start(world)).result
    assert (found.count == 30).all() and (found.updated == 1).all()
    sigma2 = noise_power(found, torch.ones(2, 2, 13))
    # of white noise the window lets its own mean square pass
    inner, outer = world.settings.window
    passed = soft_circle(24, inner, outer - inner).square().mean()
    assert sigma2[:, 0, 3:11].mean(1) / passed == pytest.approx(1, abs=0.1)
    assert sigma2[:, 1, 3:11].mean(1) / passed == pytest.approx(9, abs=0.9)


class Waits(TorchDispatchMode):
    """Names of the functions that make the host wait for a device: those that look at values."""

    def __init__(self) -> None:
        super().__init__()
        self.callers: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        looks = name.startswith(
            ("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten._unique")
        )
        if name.startswith(("aten.index.Tensor", "aten.index_put")):
            looks = any(i is not None and i.dtype == torch.bool for i in args[1])
        if looks:
            frames = [f for f in traceback.extract_stack() if f.filename.startswith(PACKAGE)]
            self.callers.add(frames[-1].name)
        return function(*args, **(kwargs or {}))


def test_the_host_waits_for_nothing_but_how_many_candidates_are_left(simulate: Callable) -> None:
    world = simulate(40, 2.0, groups=2)
    with torch.no_grad():
        state, _ = initialise_state(
            world.blind, world.volume, world.batches(), world.settings, 24.0, CPU
        )
        expectation, batches = Expectation(state, world.settings, CPU), world.batches(10)
        expect(expectation, batches[0])  # makes the templates
        batch = batches[1]
        with Waits() as waits:
            expect(expectation, batch)
    # count and transfer look at the CPU's copy, or on a CPU only
    left = {"thin_out", "coarse_candidates"}
    assert left <= waits.callers <= left | {"count", "transfer"}


def test_clear_images_are_found_where_they_are(
    simulate: Callable, start: Callable, e_step: Callable
) -> None:
    """Limited to 10.7 Å: degrees, a 25th of a pixel of 4 Å, and the contrast of each."""
    world = simulate(40, 30.0, scale_sigma=0.2)
    found, truth = e_step(world, start(world)).result, world.truth
    turn = rotation_angle(found.rotation, truth.rotation).rad2deg()
    move = (found.shift - truth.shift).norm(dim=1)
    contrast = found.cross / found.power / truth.scale
    # a few of this round molecule are taken for their opposites
    assert turn.median() < 2.4 and turn.quantile(0.75) < 5
    assert move.median() < 0.16
    assert contrast.min() > 0.87 and contrast.max() < 1.07


def test_an_image_adds_its_weight_to_its_own_half_set(simulate: Callable, start: Callable) -> None:
    """Interpolation shares out |T|^2 / sigma^2 between neighbours, and loses none of it."""
    world = simulate(40, 4.0, scale_sigma=0.2, posterior="best_pose")
    expectation = Expectation(start(world), world.settings, CPU)
    batch = world.batches(8)[0]
    expect(expectation, batch)
    images = expectation.observe(batch).images.limited(
        expectation._count(expectation.insertion_limit)
    )
    expected = float((images.gain**2 * images.precision).sum(dtype=torch.float64))
    added = [float(merge_(a)[..., 2].sum(dtype=torch.float64)) for a in expectation.sums.values()]
    assert added[1 - batch.half] == 0 and added[batch.half] == pytest.approx(expected, rel=1e-4)


def test_beyond_the_alignment_limit_nothing_is_predicted(
    simulate: Callable, start: Callable
) -> None:
    """There the residual is the image itself, within it far less."""
    world = simulate(40, 30.0)
    state = start(world)
    state.max_shell = 6.0
    expectation = Expectation(state, world.settings, CPU)
    batch = world.batches(20)[0]
    expectation.use(batch)
    observed = expectation.observe(batch)
    prediction = expectation._prediction(observed.inside, expectation.search(observed).poses)
    residual = residual_power(observed.inside.spectrum, prediction)
    power, count = observed.images.spectrum.abs().square(), expectation._count(6.0)
    torch.testing.assert_close(residual[:, count:], power[:, count:])
    assert residual[:, :count].sum() < 0.04 * power[:, :count].sum()


def test_a_sample_of_each_half_set_is_compared_with_the_other_reference(
    simulate: Callable, start: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first images only; with the same reference they stay where they are."""
    monkeypatch.setattr(module, "COMPARED_IMAGES", 12)
    world = simulate(60, 4.0)
    expectation = Expectation(start(world), world.settings, CPU)
    batches = world.batches(8)
    for number in range(len(batches)):
        expect(expectation, batches[number])
    moved = expectation.result.pose_difference
    for half in (0, 1):
        rows = torch.nonzero(world.truth.half == half)[:, 0]
        # a pose that cannot climb does not move at all
        assert (moved[rows[:12]] > 0).any(1).sum() >= 2 and moved[rows[12:]].max() == 0
    assert expectation.to_compare == [0, 0]
    assert (moved.amax(0) < torch.tensor([0.003, 0.009])).all()  # radians, Å


def test_a_reference_is_prepared_once_per_half_set(simulate: Callable, start: Callable) -> None:
    world = simulate(40, 4.0)
    expectation, batches = Expectation(start(world), world.settings, CPU), world.batches(10)
    first, second, third = (batches[i] for i in (0, 1, 2))
    assert [b.half for b in (first, second, third)] == [0, 0, 1]
    used = []
    for batch in (first, second, third):
        expectation.use(batch)
        used.append(expectation.reference)
    assert used[0] is used[1] is not used[2]
    expectation.drop()
    assert expectation.reference is expectation.finder.reference is None
    expect(expectation, Batch(torch.arange(0), torch.zeros(0, 24, 24), 0))  # fillers ask for none
    assert expectation.reference is None
