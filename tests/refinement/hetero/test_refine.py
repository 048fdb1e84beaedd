"""Passes: posteriors with junk beside the classes, shares, and when a run ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from cryotorch.refinement.hetero.refine import FIRST_JUNK, LEAST_JUNK, log_prior, posterior, sizes


def test_junk_competes_with_all_classes_and_is_not_held_wide() -> None:
    evidence = torch.tensor([[9.0, 3.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 30.0], [5.0, 4.0, 1.0]])
    found = cast("Any", SimpleNamespace(evidence=evidence))
    share, inverse = posterior(found, torch.zeros(4, 2), 2.0, 2)
    assert inverse < 0.01  # a target of all classes
    torch.testing.assert_close(share.sum(1), torch.ones(4))
    torch.testing.assert_close(share[:, 0], share[:, 1], rtol=0.02, atol=0.01)
    assert float(share[2, 2]) > 0.999 and float(share[0, 2]) < 0.001
    assert float(share[1, 2]) == pytest.approx(FIRST_JUNK, rel=0.01)
    free, inverse = posterior(found, torch.tensor([[0.5, 0.5, 0.0]]).repeat(4, 1), 1.0, 2)
    assert inverse == 1
    ratio = free[0, 0] / free[0, 1]
    assert float(ratio.log()) == pytest.approx(6, abs=1e-3)


def test_shares_before_are_those_of_images_that_are_in_maps() -> None:
    share = torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.2, 0.2], [0.6, 0.2, 0.2]])
    prior = log_prior(share, 2).exp()
    assert float(prior.sum()) == pytest.approx(1) and float(prior[0] / prior[1]) == pytest.approx(3)
    assert float(log_prior(torch.tensor([[0.5, 0.5, 0.0]]), 2).exp()[2]) == pytest.approx(
        LEAST_JUNK
    )
    assert sizes(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), 2).tolist() == [0.5, 0.5, 0.0]
