"""What is said of a symmetry: nothing where it fits or cannot be told, else the turn or the group that fits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.findings import codes
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.geometry.symmetry_fit import Fit
from cryotorch.ops.geometry.symmetry_frame import conjugate, holds, same_group, turn
from cryotorch.refinement.em.symmetry_check import judge_symmetry
from cryotorch.report.sentences import say


class Look:
    """Half maps without noise of a particle that has the operators of a group."""

    resolves, high = True, 12

    def __init__(self, group: Tensor, noise: float = 0.02, width: float = 0.0) -> None:
        self.group, self.noise, self.width = group, noise, width

    def __call__(self, rotations: Tensor) -> Fit:
        near = [float((self.group - r).flatten(1).norm(dim=1).min()) for r in rotations]
        score = torch.tensor([max(1 - distance / 0.3, 0.0) for distance in near])
        error = torch.full((len(score),), self.noise)
        return Fit(score, error, 2 * error)


@pytest.mark.parametrize("name", ["C1", "C4", "D3", "I"])
def test_what_fits_is_not_talked_about(name: str) -> None:
    verdict = judge_symmetry(Look(point_group(name)), point_group(name), name, 120.0)
    assert verdict.warning is None and verdict.turn is None
    assert verdict.fits is (None if name == "C1" else True)


def test_what_cannot_be_told_is_not_contradicted() -> None:
    noisy = judge_symmetry(Look(point_group("C2"), noise=0.4), point_group("D2"), "D2", 120.0)
    assert noisy.fits is None and noisy.warning is None


@pytest.mark.parametrize(
    "truth, name, words",
    [
        (conjugate(point_group("D3"), turn((0, 0, 1), 90)), "D3", "by 90° about z"),
        (conjugate(point_group("D4"), turn((0, 0, 1), 22.5)), "D4", "by 22.5° about z"),
        (conjugate(point_group("D7"), turn((0, 0, 1), -7)), "D7", "about z"),
        (conjugate(point_group("C3"), turn((0, 1, 0), 90)), "C3", "by 90° about y"),
        (point_group("I1"), "I", "symmetry=I1"),
        (point_group("I4"), "I1", "symmetry=I4"),
        (conjugate(point_group("O"), turn((0, 0, 1), 45)), "O", "by 45° about z"),
    ],
)
def test_the_turn_that_fits_is_named(truth: Tensor, name: str, words: str) -> None:
    verdict = judge_symmetry(Look(truth), point_group(name), name, 120.0)
    assert verdict.fits is False and words in say(verdict.warning)
    assert "turn_fits" in codes(verdict.warning["remedies"])
    assert verdict.resolution == verdict.warning["resolution"] == 10.0
    turned = conjugate(truth, verdict.turn)
    apart = (turned[:, None] - point_group(name)).abs().amax((-2, -1)).amin(1)
    assert apart.max() < 0.02  # the angle of D7 is found by its scores
    if name != "D7":
        assert same_group(turned, point_group(name))


@pytest.mark.parametrize(
    "truth, name, words",
    [
        ("C4", "D4", "symmetry=C4"),
        ("D3", "D6", "symmetry=D3"),
        ("C1", "C3", "no other symmetry is seen to fit about these axes: take C1"),
        ("T", "O", "symmetry=T fits"),
        ("O", "I", "symmetry=O fits"),  # neither is a part of the other
        ("O", "T", "symmetry=O fits as they are; after a turn by -45° about z"),
        ("O", "D3", "symmetry=O fits"),
        ("D9", "D6", "symmetry=D9 fits"),
        ("C14", "C7", ""),
    ],
)
def test_a_group_that_does_not_fit_is_told(truth: str, name: str, words: str) -> None:
    verdict = judge_symmetry(Look(point_group(truth)), point_group(name), name, 120.0)
    if words == "":  # fewer than there are
        assert verdict.fits and not verdict.warning
        return
    assert verdict.fits is False and words in say(verdict.warning)
    assert (verdict.turn is None) == ("after a turn" not in words)
    assert not holds(point_group("C4"), turn((1, 0, 0), 90))
