"""Frames: turns that keep a point group's axes, or lead from other axes to them."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.geometry.symmetry_frame import (
    conjugate,
    holds,
    largest_group,
    mates,
    named_groups,
    same_group,
    turn,
    z_fold,
)

ALL = ["C2", "C3", "C4", "D2", "D3", "D4", "D7", "T", "O", "I", "I1", "I3", "I4"]


@pytest.mark.parametrize("name", ALL)
def test_mates_keep_the_axes_and_are_new(name: str) -> None:
    group = point_group(name)
    cosets = [torch.eye(3, dtype=torch.float64), *mates(group)]
    for i, mate in enumerate(cosets):
        assert same_group(conjugate(group, mate), group)
        assert not any(holds(group, other.mT @ mate) for other in cosets[:i])


def test_mates_are_all_that_the_normaliser_holds() -> None:
    """N(Dn) = D2n, N(D2) = N(T) = O, N(O) = O, N(I) = I: its order over that of the group, without the identity."""
    expected = {"D2": 24 // 4, "D3": 2, "D4": 2, "D7": 2, "T": 24 // 12, "O": 1, "I": 1, "I3": 1}
    assert {name: len(mates(point_group(name))) + 1 for name in expected} == expected
    assert len(mates(point_group("C1"))) == 0 and len(mates(point_group("C4"))) == 3


def test_the_largest_group_that_fits_is_found_by_its_name() -> None:
    names = [name for name, _ in named_groups(8)]
    assert len(names) == 6 + 2 * 7 and names[:5] == ["I1", "I2", "I3", "I4", "O"]
    for truth, asked, found in (
        ("O", "I", "O"),
        ("I1", "O", "I1"),
        ("T", "C2", "T"),
        ("D14", "C7", "D14"),
        ("D13", "C5", None),
    ):
        group = point_group(truth)

        def fits(operators: torch.Tensor, group=group) -> bool:
            return all(holds(group, operator) for operator in operators)

        other = largest_group(point_group(asked), fits)
        assert (other and other[0]) == found, truth
        assert other is None or same_group(other[1], group)


def test_another_frame_is_another_group() -> None:
    quarter = turn((0, 0, 2), 90)
    assert torch.allclose(quarter[:, 0], torch.tensor([0.0, 1, 0], dtype=torch.float64))
    assert same_group(conjugate(point_group("I1"), quarter), point_group("I2"))
    assert not same_group(conjugate(point_group("D3"), quarter), point_group("D3"))
    assert not same_group(point_group("D3"), point_group("D4"))
    assert [z_fold(point_group(name)) for name in ("C1", "D7", "O", "I", "I3")] == [1, 7, 4, 2, 5]
