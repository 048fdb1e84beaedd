"""Shares of classes, and how far two assignments agree."""

from __future__ import annotations

import pytest
import torch

from cryotorch.refinement.class_shares import agreement, effective_size, of_images


def test_sizes_and_shares() -> None:
    share = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.4, 0.6]])
    assert of_images(share).tolist() == pytest.approx([2 / 3, 1 / 3])
    assert effective_size(share).tolist() == pytest.approx([2.4**2 / 2.16, 1.0])
    # one image as good as alone among many that hardly count
    few = torch.cat([torch.ones(1, 1), torch.full((100, 1), 1e-4)])
    assert float(effective_size(few)[0]) == pytest.approx(1.0201, abs=1e-3)


def test_assignments_agree_whatever_classes_are_called() -> None:
    first = torch.tensor([0, 0, 0, 1, 1, 2])
    renamed = torch.tensor([2, 2, 2, 0, 0, 1])
    same = agreement(first, renamed, 3)
    assert same.share == 1 and same.beyond_chance == pytest.approx(1)
    assert same.order.tolist() == [2, 0, 1]
    other = agreement(first, torch.tensor([2, 2, 0, 0, 0, 1]), 3)
    assert other.share == pytest.approx(5 / 6)
    # chance: 3/6 * 2/6 + 2/6 * 3/6 + 1/6 * 1/6
    assert other.beyond_chance == pytest.approx((5 / 6 - 13 / 36) / (1 - 13 / 36))


def test_independent_assignments_are_no_better_than_chance() -> None:
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.rand(2, 20_000, generator=draw) < 0.2).long()
    found = agreement(first, second, 2)
    assert found.share == pytest.approx(0.68, abs=0.01)
    assert abs(found.beyond_chance) < 0.02
