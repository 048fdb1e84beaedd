"""Averages out of sums: amplitude, filter, centre."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.fourier.planes import planes, reach_of, turn_back, turned, turns
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.refinement.class2d.averages import (
    Sums,
    centres,
    mask_of,
    noise_support,
    recentre_,
    ring_correlation,
    solve,
)

BOX = 32


def sums_of(images: torch.Tensor, how, weight: float = 1.0) -> Sums:
    """The sums of two half sets (2, 1, d, d), each image at many turns."""
    reach = reach_of(how.last_limit, BOX)
    angle = (torch.arange(40) + 0.5) * (math.pi / 40)
    at = turns(angle, half_plane(BOX).count(how.last_limit), BOX, reach)
    spectra = turned(planes(images.flatten(0, 1), reach), at)
    numerator = turn_back(weight * spectra, at).unflatten(0, (2, 1))
    of_each = turn_back(torch.full(spectra.shape, weight), at).unflatten(0, (2, 1))
    return Sums(numerator, of_each, torch.full((2, 1), 50.0))


def test_an_average_is_what_went_in(patterns, how) -> None:
    image = patterns.picture(1, 0.0, (0.0, 0.0))
    found = solve(sums_of(image.expand(2, 1, BOX, BOX), how, 7.0), how)
    mask = mask_of(how, torch.device("cpu"))
    wanted = image * mask
    assert float((found.halves[0, 0] - wanted).norm() / wanted.norm()) < 0.15
    assert float((found.merged[0] * mask * wanted).sum() / wanted.square().sum()) > 0.9
    assert bool((found.curve[0, 1 : int(how.last_limit)] > 0.99).all())


def test_what_the_half_sets_do_not_share_is_left_out(patterns, how) -> None:
    """Noise of its own in each half set: the filter leaves less of it than the plain mean has."""
    torch.manual_seed(0)
    image = patterns.picture(0, 0.0, (0.0, 0.0))
    noise = torch.randn(2, 1, BOX, BOX)
    found = solve(sums_of(image + noise, how), how)
    mask = mask_of(how, torch.device("cpu"))
    inside = mask > 0.99
    plain = solve(sums_of((image + noise).mean(0).expand(2, 1, BOX, BOX), how), how)
    error = [float((x.merged[0] - image)[inside].norm()) for x in (found, plain)]
    assert error[0] < 0.8 * error[1]
    assert float(found.curve[0, 7:9].mean()) < 0.6


def test_ring_correlation() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, BOX, BOX)
    assert torch.allclose(ring_correlation(a, a), torch.ones(3, BOX // 2 + 1).double(), atol=1e-6)
    # two noises: three shells around s hold 6 pi s numbers
    error = ring_correlation(*torch.randn(2, 60, BOX, BOX))[:, 10].std()
    assert float(error) == pytest.approx((60 * math.pi) ** -0.5, rel=0.3)
    assert float(ring_correlation(a, (a + b) / 2)[:, 3:15].mean()) == pytest.approx(0.71, abs=0.05)


def test_how_much_of_the_box_noise_covers() -> None:
    torch.manual_seed(0)
    line = (torch.arange(BOX) - BOX // 2).square()
    circle = ((line[:, None] + line).sqrt() <= 8).float()
    noise = torch.randn(40, BOX, BOX)
    found = noise_support(torch.cat([noise, noise * circle])).view(2, 40).mean(1)
    assert float(found[0]) == pytest.approx(1.0, abs=0.05)
    assert float(found[1]) == pytest.approx(float(circle.mean()), rel=0.15)


def test_classes_are_moved_into_the_middle(patterns, how) -> None:
    image = patterns.picture(0, 0.4, (2.0, -1.5))
    sums = sums_of(image.expand(2, 1, BOX, BOX), how)
    mask = mask_of(how, torch.device("cpu"))
    before = centres(solve(sums, how).merged, mask)[0]
    recentre_(sums, solve(sums, how).merged, how)
    after = centres(solve(sums, how).merged, mask)[0]
    assert float(before.norm()) > 1.5 and float(after.norm()) < 0.3


def test_a_class_is_exchanged(patterns, how) -> None:
    sums = Sums.empty(3, 4, torch.device("cpu"))
    one = Sums(torch.ones(2, 1, 4).to(torch.complex64), torch.ones(2, 1, 4), torch.ones(2, 1))
    sums.put_(1, one)
    sums.add_(sums, 0.5)
    assert sums.mass.tolist() == [[0, 1.0, 0]] * 2 or sums.mass.tolist() == [[0, 1.5, 0]] * 2
    assert sums.taken(torch.tensor([1, 0, 2])).mass[0, 0] == sums.mass[0, 1]
