"""The posterior over a bank and its sums, against loops that follow the formulas."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.pose.bank import Assignment, Bank, assign, find_temperature
from cryotorch.ops.pose.scores import Observation, templates

BOX, LIMIT, IMAGES, SHIFTS, SLICES = 16, 4, 5, 3, 6


def setting() -> tuple[Observation, torch.Tensor, torch.Tensor, Bank]:
    g = torch.Generator().manual_seed(1)
    m = half_plane(BOX).count(LIMIT)
    y, p = (torch.complex(*torch.randn(2, n, m, generator=g)) for n in (IMAGES, SLICES))
    gain, precision = torch.randn(IMAGES, m, generator=g), torch.rand(IMAGES, m, generator=g) / 20
    shift = 2 * torch.randn(IMAGES, SHIFTS, 2, generator=g)
    bank = Bank(templates(p, random_rotations(SLICES, g)), 2, torch.tensor([0.3, 0.7]).log())
    return Observation(y, gain, precision, BOX), shift, p, bank


def by_loops(
    images: Observation, shift: torch.Tensor, p: torch.Tensor, bank: Bank, inverse: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(b, t, 2 r) log posterior before normalisation, numerator and weight of the r slices, in float64."""
    y, c, w = images.spectrum.to(torch.complex128), images.gain.double(), images.precision.double()
    both = torch.cat([p, p.conj()]).to(torch.complex128)
    log = torch.empty(IMAGES, SHIFTS, 2 * SLICES, dtype=torch.float64)
    m = y.shape[1]
    for i in range(IMAGES):
        for t in range(SHIFTS):
            phase = shift_phase(shift[i, t][None], BOX, m)[0].to(torch.complex128)
            for j in range(2 * SLICES):
                f = c[i] * phase * both[j]
                score = (w[i] * ((y[i].conj() * f).real - f.abs() ** 2 / 2)).sum()
                log[i, t, j] = 2 * inverse * score + bank.log_share[(j % SLICES) // (SLICES // 2)]
    posterior = (log - log.flatten(1).logsumexp(1)[:, None, None]).exp()
    numerator = torch.zeros(SLICES, m, dtype=torch.complex128)
    weight = torch.zeros(SLICES, m, dtype=torch.float64)
    for i in range(IMAGES):
        for t in range(SHIFTS):
            back = shift_phase(-shift[i, t][None], BOX, m)[0].to(torch.complex128)
            for j in range(2 * SLICES):
                term = w[i] * c[i] * back * y[i]
                term = term if j < SLICES else term.conj()
                numerator[j % SLICES] += posterior[i, t, j] * term
                weight[j % SLICES] += posterior[i, t, j] * w[i] * c[i] ** 2
    return log, numerator, weight


@pytest.mark.parametrize("inverse", [1.0, 0.2])
def test_posterior_and_sums_follow_the_formulas(inverse: float) -> None:
    images, shift, p, bank = setting()
    log, numerator, weight = by_loops(images, shift, p, bank, inverse)
    found: Assignment = assign(images, shift, bank, inverse)
    torch.testing.assert_close(found.numerator.to(numerator), numerator, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.weight.double(), weight, rtol=1e-4, atol=1e-6)
    flat = log.flatten(1)
    hypotheses = SHIFTS * 2 * SLICES / 2  # of one class
    torch.testing.assert_close(
        found.evidence.double(), flat.logsumexp(1) - math.log(hypotheses), rtol=1e-4, atol=1e-4
    )
    posterior = flat.softmax(1)
    torch.testing.assert_close(
        found.size.double(), 1 / posterior.square().sum(1), rtol=1e-4, atol=1e-4
    )
    best = flat.argmax(1)
    assert torch.equal(found.best, best % (2 * SLICES))
    torch.testing.assert_close(found.shift_px, shift[torch.arange(IMAGES), best // (2 * SLICES)])
    classes = posterior.view(IMAGES, SHIFTS, 2, 2, SLICES // 2).sum((1, 2, 4))
    torch.testing.assert_close(found.share.double(), classes, rtol=1e-4, atol=1e-5)


def test_parts_of_a_batch_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    images, shift, _, bank = setting()
    whole = assign(images, shift, bank)
    monkeypatch.setattr("cryotorch.ops.pose.bank.CPU_SCORES", 2 * SHIFTS * 2 * SLICES)
    parts = assign(images, shift, bank)
    for name in ("numerator", "weight", "share", "evidence", "size"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


def test_the_temperature_gives_the_size_asked_for() -> None:
    images, shift, _, bank = setting()
    images = Observation(images.spectrum, images.gain, 100 * images.precision, BOX)
    cold = assign(images, shift, bank).size.median()
    assert float(cold) < 3
    inverse = find_temperature(images, shift, bank, 8.0)
    assert float(assign(images, shift, bank, inverse).size.median()) == pytest.approx(8, rel=1e-3)
    assert find_temperature(images, shift, bank, 1.0) == 1.0
    assert find_temperature(images, shift, bank, 100.0) == pytest.approx(1e-6)  # of 36 hypotheses
