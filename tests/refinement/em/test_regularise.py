"""References: alike below the split, of their own half set above it, and filtered by what the half maps share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryotorch.ops.fourier.filters import filter_shells, radial_amplitude
from cryotorch.ops.fourier.reconstruct import Sums, collect, solve_lightly
from cryotorch.ops.fourier.slices import (
    extract_slices,
    gridding_correction,
    insert_slices_,
    projector,
)
from cryotorch.ops.fourier.transforms import fft_volume, half_plane, volume_shells
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.refinement.em import mstep, reference_mask, regularise
from cryotorch.refinement.em.iteration import maximize
from cryotorch.refinement.runtime.ranks import Ranks


def test_halves_share_nothing_above_the_split() -> None:
    generator = torch.Generator().manual_seed(3)

    def sums() -> Sums:
        numerator = torch.randn(8, 8, 5, dtype=torch.complex128, generator=generator)
        return Sums(numerator, torch.rand(8, 8, 5, generator=generator).double(), 8, 1, 4)

    own, other = sums(), sums()
    merged = own + other
    before = own.numerator.clone(), own.weight.clone()
    low = own.shells() < 1.5  # a shell less: what is shared leaks one further
    assert 0 < low.sum() < low.numel()
    with regularise.sharing_low(own, regularise.low_rows(merged, 2.5), 2.5):
        for now, then, both in (
            (own.numerator, before[0], merged.numerator),
            (own.weight, before[1], merged.weight),
        ):
            assert torch.equal(now[~low], then[~low]) and torch.equal(now[low], both[low])
    assert torch.equal(own.numerator, before[0]) and torch.equal(own.weight, before[1])


def test_references_above_the_split_come_from_their_own_half(
    simulate: Callable,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable,
    e_step: Callable,
    alone: Ranks,
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
        state = start(world)
        expectation = e_step(world, state)
        other = extract_slices(projector(world.volume.flip(0)), world.truth.rotation, frequency)
        weight = torch.full(other.shape, change)
        insert_slices_(expectation.sums[1], change * other, weight, world.truth.rotation, frequency)
        maximize(expectation, alone)
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


def solved_of(simulate: Callable, start: Callable, e_step: Callable, **changes):
    world = simulate(60, 4.0, **changes)
    state = start(world)
    sums = e_step(world, state).sums
    return world.settings, mstep.solve({half: collect(a) for half, a in sums.items()}, Ranks())


def filtered(solved, curve, mask, settings) -> list[torch.Tensor]:
    """The map of all particles, and that of half set A."""
    plain = regularise.regularise(solved, curve, mask, settings, Ranks())
    assert plain.noise_filter.cutoff is None
    return [plain.full(), plain.reference(0)]


def test_the_wiener_filter_follows_the_curve(
    simulate: Callable, start: Callable, e_step: Callable
) -> None:
    """At an FSC of 0.5 a half map keeps a half and the map of both two thirds; where the curve is 1 all stays, where it is 0 nothing."""
    s, solved = solved_of(simulate, start, e_step, local_wiener=False)
    merged = solve_lightly(solved.sums[0] + solved.sums[1])
    curve = torch.tensor([1.0] * 4 + [0.5] * 5 + [0.0] * 4)
    whole, part = (filtered(solved, c, torch.ones(24, 24, 24), s) for c in (torch.ones(13), curve))
    merged = filter_shells(merged, torch.ones(13))  # without the corners
    torch.testing.assert_close(whole[0], merged, rtol=0, atol=2e-3 * float(merged.abs().max()))
    full, half = (
        radial_amplitude(a) / radial_amplitude(b) for a, b in zip(part, whole, strict=True)
    )
    assert full[1:4] == pytest.approx(1, abs=0.01) and half[1:4] == pytest.approx(1, abs=0.01)
    assert full[5:8] == pytest.approx(2 / 3, abs=0.01)
    assert half[5:8] == pytest.approx(1 / 2, abs=0.01)
    assert float(full[10:12].max()) < 0.01 and float(half[10:12].max()) < 0.01


def test_density_that_only_one_place_shares_is_kept_there(
    simulate: Callable, start: Callable, e_step: Callable
) -> None:
    """The local filter leaves less of the solvent than the global one, and no less of the particle."""
    s, solved = solved_of(simulate, start, e_step)
    inside, outside = soft_sphere(24, 6, 0), 1 - soft_sphere(24, 10, 0)
    curve = torch.tensor([1.0] * 4 + [0.7] * 4 + [0.4] * 5)
    maps = [
        filtered(solved, curve, soft_sphere(24, 9, 2), replace(s, local_wiener=local))[0]
        for local in (True, False)
    ]
    solvent, particle = (
        [float((m * where).square().sum()) for m in maps] for where in (outside, inside)
    )
    assert solvent[0] < 0.7 * solvent[1] and particle[0] > 1.05 * particle[1]
