"""The M-step: noise, scales, half sets that stay apart, and what it leaves in the state."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.reconstruct import Sums
from cryotorch.ops.fourier.slices import (
    extract_slices,
    gridding_correction,
    insert_slices_,
    merge_,
    projector,
)
from cryotorch.ops.fourier.transforms import fft_volume, half_plane, volume_shells
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.masks.soft import soft_circle, soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.em import reference_mask, regularise, update
from cryotorch.refinement.em.expectation import EStepResult, Expectation
from cryotorch.refinement.em.iteration import expect, maximize
from cryotorch.refinement.em.mstep import MapSolve
from cryotorch.refinement.em.reference_mask import update_mask
from cryotorch.refinement.em.update import coefficients_per_shell, noise_power
from cryotorch.refinement.settings import MaskSettings, ScheduleSettings
from cryotorch.refinement.state import State


def nothing_found(n: int, groups: int = 1, shells: int = 13) -> EStepResult:
    return EStepResult(
        rotation=torch.eye(3).repeat(n, 1, 1),
        shift=torch.zeros(n, 2),
        sigma=torch.zeros(n, 2),
        cross=torch.ones(n),
        power=torch.ones(n),
        seen=torch.ones(n),
        certain=torch.ones(n),
        moved=torch.zeros(n, 2),
        ratio=torch.ones(n, 3),
        blank=torch.zeros(n),
        residual=torch.zeros(2, groups, shells, dtype=torch.float64),
        count=torch.zeros(2, groups, shells, dtype=torch.float64),
        pruning=torch.zeros(6, dtype=torch.float64),
    )


def begin(world) -> State:
    """The state of a run whose references are the truth."""
    s, groups = world.settings, len(world.truth.optics.voltage_kv)
    noise = torch.full((2, groups, s.box // 2 + 1), 0.7)
    return State(world.blind, torch.stack([world.volume] * 2), noise, 9.0)


def e_step(world, state: State) -> Expectation:
    expectation = Expectation(state, world.settings, torch.device("cpu"))
    batches = world.batches()
    for number in range(len(batches)):
        expect(expectation, batches[number])
    return expectation


def alone(tensors: list[Tensor]) -> None:
    """The reduction of a single process."""


def test_noise_power_is_residual_per_coefficient() -> None:
    found = nothing_found(4, groups=3)
    per_image = coefficients_per_shell(24)
    assert int(per_image[1:].sum()) == len(half_plane(24).shell)
    found.count[:, :2] = torch.tensor([[5.0, 2], [3, 0]], dtype=torch.float64)[..., None]
    sigma2 = torch.arange(1.0, 14, dtype=torch.float64)
    found.residual[0, 0] = 5 * per_image * sigma2
    found.residual[0, 1] = 2 * per_image * 3 * sigma2
    found.residual[1, 0] = 3 * per_image * 2 * sigma2
    before = torch.full((2, 3, 13), 0.25)
    noise = noise_power(found, before)
    sigma2[0] = sigma2[1]  # a shell without coefficients
    assert torch.allclose(noise[0, 0], sigma2.float())
    assert torch.allclose(noise[0, 1], 3 * sigma2.float())
    assert torch.allclose(noise[1, 0], 2 * sigma2.float())
    assert torch.equal(noise[1, 1], before[1, 1])  # no images there: as before
    assert torch.equal(noise[:, 2], before[:, 2])


def test_noise_power_never_is_zero() -> None:
    found = nothing_found(4)
    found.count[:] = 2
    found.residual[..., 5:] = 1.0
    noise = noise_power(found, torch.ones(2, 1, 13))
    assert noise.min() > 0
    assert torch.allclose(noise[..., 3], 1e-6 * noise.mean(-1))


def test_planted_noise_is_recovered_in_every_half_and_group(simulate: Callable) -> None:
    """The second half of the particles, the second optics group, is three times as noisy."""
    world = simulate(120, 2.0, groups=2, schedule=ScheduleSettings(9.0, 11.0))
    noise = torch.randn(world.images.shape, generator=torch.Generator().manual_seed(9))
    world.images[60:] += 8**0.5 * noise[60:]
    found = e_step(world, begin(world)).found
    assert (found.count == 30).all() and (found.seen == 1).all()
    sigma2 = noise_power(found, torch.ones(2, 2, 13))
    # of white noise the window lets its own mean square pass
    inner, outer = world.settings.window
    passed = soft_circle(24, inner, outer - inner).square().mean()
    assert sigma2[:, 0, 3:11].mean(1) / passed == pytest.approx(1, abs=0.1)
    assert sigma2[:, 1, 3:11].mean(1) / passed == pytest.approx(9, abs=0.9)


def scaled(cross: Tensor, power: Tensor, simulate: Callable) -> State:
    world = simulate(len(cross), None, box=8)
    state = begin(world)
    found = nothing_found(len(cross))
    found.cross[:], found.power[:] = cross, power
    update._update_scale(state, found, torch.ones(len(cross), dtype=torch.bool))
    return state


def test_scales_shrink_to_one_when_particles_do_not_differ(simulate: Callable) -> None:
    """cross / power scatters by noise alone, 1 / sqrt(2 power) = 0.22."""
    generator = torch.Generator().manual_seed(1)
    power = torch.full((2000,), 10.0)
    cross = power + (power / 2).sqrt() * torch.randn(2000, generator=generator)
    state = scaled(cross, power, simulate)
    assert (cross / power).std() > 0.2
    assert state.scale_spread < 0.05
    assert state.particles.scale.std() < 0.02


@pytest.mark.parametrize("spread", [0.15, 0.3])
def test_a_planted_spread_is_recovered(spread: float, simulate: Callable) -> None:
    generator = torch.Generator().manual_seed(2)
    truth = 1 + spread * torch.randn(4000, generator=generator)
    power = 10 + 40 * torch.rand(4000, generator=generator)
    cross = truth * power + (power / 2).sqrt() * torch.randn(4000, generator=generator)
    # a map on half the grey scale halves the cross terms and quarters the powers: no particle's scale knows
    state = scaled(cross / 2, power / 4, simulate)
    scale = state.particles.scale
    assert state.scale_spread == pytest.approx(spread, rel=0.15)
    for half in (0, 1):
        assert scale[state.particles.half == half].mean() == pytest.approx(1, abs=1e-4)
    assert torch.corrcoef(torch.stack([scale, truth]))[0, 1] > 0.6
    error, before = (scale - truth).std(), (cross / power - truth).std()
    assert error < before  # shrinking helps
    assert scale.min() > 0.1 and scale.max() < 3.5


def test_scales_of_hopeless_particles_stay_in_range(simulate: Callable) -> None:
    power = torch.full((200,), 50.0)
    cross = power.clone()
    cross[:40] = -power[:40]  # upside down
    cross[40:50] = 100 * power[40:50]
    scale = scaled(cross, power, simulate).particles.scale
    assert scale.isfinite().all() and scale.min() > 0
    state = scaled(-power, power, simulate)
    assert torch.equal(state.particles.scale, torch.ones(200))  # nothing to go by


def test_halves_share_nothing_above_the_split() -> None:
    generator = torch.Generator().manual_seed(3)

    def sums() -> Sums:
        numerator = torch.randn(8, 8, 5, dtype=torch.complex128, generator=generator)
        return Sums(numerator, torch.rand(8, 8, 5, generator=generator).double(), 8, 1, 4)

    own, other = sums(), sums()
    shared = regularise.share_low(own, own + other, 2.5)
    low = own.shell < 1.5  # a shell less: what is shared leaks one further
    assert 0 < low.sum() < low.numel()
    assert torch.equal(shared.numerator[~low], own.numerator[~low])
    assert torch.equal(shared.weight[~low], own.weight[~low])
    assert torch.equal(shared.numerator[low], (own + other).numerator[low])
    assert torch.equal(shared.weight[low], (own + other).weight[low])


def test_references_above_the_split_come_from_their_own_half(
    simulate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Add something else to what half B has seen: half A's reference changes below the split shell only."""
    world = simulate(60, 2.0)
    s, frequency = world.settings, half_plane(24).frequency
    assert 3 < s.split < 8
    # prior and mask are by design of both halves
    monkeypatch.setattr(regularise, "local_wiener", lambda volume, *_: volume)
    monkeypatch.setattr(reference_mask, "_reference_mask", lambda *_: torch.tensor(1.0))
    spectra = []
    for change in (0.0, 100.0):
        state = begin(world)
        expectation = e_step(world, state)
        other = extract_slices(projector(world.volume.flip(0)), world.truth.rotation, frequency)
        weight = torch.full(other.shape, change)
        insert_slices_(expectation.sums[1], change * other, weight, world.truth.rotation, frequency)
        maximize(state, expectation, s, alone)
        # undo the gridding correction, which mixes shells
        spectra.append(fft_volume(state.references * gridding_correction(24, 24)))
    moved = (spectra[1] - spectra[0]).abs()
    size = spectra[0].abs()
    shell = volume_shells(24)
    above, below = (shell > s.split) & (shell < 12), (shell < s.split - 1) & (shell > 0)
    assert moved[0][above].mean() < 1e-4 * size[0][above].mean()
    assert moved[0][below].mean() > 0.1 * size[0][below].mean()
    assert moved[1][above].mean() > 0.1 * size[1][above].mean()
    # below it both are one
    assert torch.allclose(spectra[1][0][below], spectra[1][1][below], atol=1e-3 * float(size.max()))


def test_an_iteration_improves_the_map_and_tells_what_it_did(simulate: Callable) -> None:
    world = simulate(200, 4.0)
    state = begin(world)
    state.references = torch.stack([low_pass(world.volume, 4.0, 24.0)] * 2)
    state.limit = 4.0
    results = []
    for _ in range(2):
        results.append(maximize(state, e_step(world, state), world.settings, alone))
    first, second = results
    assert (first.iteration, second.iteration, state.iteration) == (1, 2, 2)
    assert [row["iteration"] for row in second.history] == [1, 2]
    assert len(first.history) == 1  # a result is not changed afterwards
    assert second.resolution == second.resolutions["corrected"] <= first.resolution < 24
    mask = soft_sphere(24, 8, 3)
    curves = [shell_correlation(r.map * mask, world.volume * mask) for r in results]
    assert curves[1][:9].min() > 0.95 and curves[1][6:10].mean() > 0.97
    copies = second.particles.rotation
    error = rotation_angle(copies, world.truth.rotation).rad2deg()
    assert error.median() < 4
    assert first.rotation_change.isnan().all()  # there was nothing to compare with
    assert second.rotation_change.median() < 10
    assert set(second.seconds) >= {"coarse", "polish", "insert", "solve", "fsc"}
    assert second.half_maps.shape == (2, 24, 24, 24) and not second.final


def test_no_resolution_is_claimed_where_nothing_was_inserted(simulate: Callable) -> None:
    world = simulate(200, 4.0)
    state = begin(world)
    state.references = torch.stack([low_pass(world.volume, 4.0, 24.0)] * 2)
    state.limit = 4.0
    expectation = e_step(world, state)
    expectation.insert_limit = 6.2
    result = maximize(state, expectation, world.settings, alone)
    # shell 6 is too near to the split of 4.8 shells to testify
    assert math.isnan(result.resolution) and result.resolutions["tight"] >= 24 * 4.0 / 6
    for curve in result.curves.values():
        assert curve[6:].tolist() == [0] * 7 and (curve[1:6] != 0).all()


def test_the_dynamic_mask_ends_before_the_box_does(simulate: Callable) -> None:
    world = simulate()
    state, s = begin(world), world.settings
    off = world.volume.roll(5, 0)  # towards one face
    update_mask(state, off, 1.0, replace(s, mask=MaskSettings("dynamic", near=6, far=40)))
    ends = [state.mask.select(axis, place) for axis in range(3) for place in (0, -1)]
    assert float(state.mask.max()) == 1
    assert max(float(end.max()) for end in ends) == 0


def test_the_last_iteration_is_final(simulate: Callable) -> None:
    world = simulate(30, 4.0, schedule=ScheduleSettings(4.0, 11.0, max_iterations=1))
    state = begin(world)
    result = maximize(state, e_step(world, state), world.settings, alone)
    assert result.final and state.stopped == "most_iterations"
    reason = next(m["reason"] for m in result.messages if m.code == "finished")
    assert reason["iterations"] == 1


def test_sums_of_two_ranks_are_those_of_one(simulate: Callable) -> None:
    """The reduction sees sums and found rows; adding two ranks' halves of the work changes nothing."""
    world = simulate(48, 4.0)
    batches = world.batches(8)
    parts = []
    for rank in (0, 1):
        parts.append(Expectation(begin(world), world.settings, torch.device("cpu")))
        for number in range(len(batches)):
            if number % 2 == rank:
                expect(parts[-1], batches[number])
    whole = Expectation(begin(world), world.settings, torch.device("cpu"))
    for number in range(len(batches)):
        expect(whole, batches[number])

    def add(tensors: list[Tensor]) -> None:
        others = [merge_(a) for a in parts[1].sums] + parts[1].found.tensors()
        assert len(tensors) == len(others)
        for tensor, other in zip(tensors, others):
            tensor += other

    state, alike = begin(world), begin(world)
    together = maximize(state, parts[0], world.settings, add)
    expected = maximize(alike, whole, world.settings, alone)
    scale = expected.map.abs().max()
    assert (together.map - expected.map).abs().max() < 1e-3 * scale
    assert torch.equal(together.particles.rotation, expected.particles.rotation)
    assert torch.allclose(state.noise, alike.noise, rtol=1e-5)


def test_the_m_step_is_an_optimizer_step() -> None:
    calls = []
    optimizer = MapSolve(lambda: calls.append(torch.is_grad_enabled()))
    assert optimizer.step() is None and calls == [False]
    assert optimizer.step(lambda: 3.0) == 3.0 and len(calls) == 2
