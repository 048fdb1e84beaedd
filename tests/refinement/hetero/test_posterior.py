"""Posteriors that are held back until their effective number of classes is what it should be."""

from __future__ import annotations

import pytest
import torch

from cryotorch.refinement.hetero.posterior import annealed_ess, class_ess, log_shares, tempered


def test_the_effective_number_of_classes() -> None:
    assert class_ess(torch.eye(3)) == pytest.approx(1)
    assert class_ess(torch.full((5, 4), 0.25)) == pytest.approx(4)
    assert class_ess(torch.tensor([[0.5, 0.5], [1.0, 0.0]])) == pytest.approx(1.5)


def test_certain_posteriors_are_held_back_to_the_target() -> None:
    evidence = 50 * torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    share, b = tempered(evidence, 3.0)
    assert class_ess(share) == pytest.approx(3.0, abs=1e-3) and 0 < b < 0.1
    torch.testing.assert_close(share, (b * evidence.double()).softmax(1).float())
    assert torch.equal(share.argmax(1), evidence.argmax(1))


def test_uncertain_posteriors_stay_as_they_are() -> None:
    evidence = 0.1 * torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    share, b = tempered(evidence, 3.0)
    assert b == 1
    torch.testing.assert_close(share, evidence.softmax(1))
    assert tempered(50 * evidence, 1.0)[1] == 1


def test_the_target_falls_to_one() -> None:
    targets = [annealed_ess(number, 4, 0.75, 4) for number in range(6)]
    assert targets == pytest.approx([3, 2.5, 2, 1.5, 1, 1])
    assert annealed_ess(0, 4, 0.3, 2) == 1


def test_no_share_is_zero() -> None:
    found = log_shares(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).exp()
    assert found.tolist() == pytest.approx([0.999, 0.001], abs=1e-5)
