"""The independent numbers of a shell, against the scatter of the FSC of noise."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier import transforms
from cryotorch.ops.fourier.transforms import shell_count
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution import significance
from cryotorch.ops.resolution.fsc import claimed_shell
from cryotorch.ops.resolution.significance import (
    antisymmetric_numbers,
    independent_numbers,
    noise_band,
    noise_profile,
    noise_share,
    shell_overlap,
)

MAPS = 14  # 91 pairs


@pytest.fixture(autouse=True)
def scripts_on_path(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maps of noise are those of ``scripts/benchmark claims``, which prints the same numbers."""
    monkeypatch.syspath_prepend(str(repository / "scripts"))


def measured(
    box: int, symmetry: str, kinds: list[str], count: int = MAPS
) -> list[tuple[Tensor, Tensor]]:
    """For each kind of mask the independent numbers, and the scatter of the FSC of all pairs (d//2 + 1,)."""
    from benchmarks.noise import fsc_of_pairs, masks, white

    group, known = point_group(symmetry), masks(box)
    maps = white(box, group, count)
    found = [(known[kind], fsc_of_pairs(maps, known[kind])) for kind in kinds]
    return [(independent_numbers(m, group), c.square().mean(0).sqrt()) for m, c in found]


def pooled(ratio: Tensor, numbers: Tensor) -> float:
    """Of squared ratios of standard deviations, over shells of some numbers: the scatter of 91 pairs alone is 7 % a shell."""
    shells = (numbers > 4) & (torch.arange(len(numbers)) < len(numbers) - 2)
    return float(ratio[shells].square().mean().sqrt())


@pytest.mark.parametrize("kind", ["none", "spherical", "small sphere", "tight"])
def test_the_fsc_of_noise_scatters_as_its_independent_numbers_say(kind: str) -> None:
    ((numbers, found),) = measured(32, "C1", [kind])
    ratio = found * numbers.sqrt()
    assert pooled(ratio, numbers) == pytest.approx(1, abs=0.1)
    assert 0.7 < ratio[2:15].min() and ratio[2:15].max() < 1.35


@pytest.mark.parametrize("symmetry", ["C4", "D7", "O", "I"])
def test_copies_by_symmetry_are_one_observation(symmetry: str) -> None:
    ((numbers, found),) = measured(32, symmetry, ["spherical"])
    # of copies that lie beside each other interpolation takes a little
    assert pooled(found * numbers.sqrt(), numbers) == pytest.approx(0.95, abs=0.12)


@pytest.mark.slow
@pytest.mark.parametrize("box", [64, 128])
@pytest.mark.parametrize("symmetry", ["C1", "C4", "D7", "O", "I"])
def test_larger_boxes(symmetry: str, box: int) -> None:
    for numbers, found in measured(box, symmetry, ["spherical", "small sphere"], 12):
        assert pooled(found * numbers.sqrt(), numbers) == pytest.approx(0.96, abs=0.12)


def test_without_mask_and_symmetry_each_coefficient_counts() -> None:
    assert torch.allclose(independent_numbers(torch.ones(24, 24, 24)), shell_count(24).double())


@pytest.mark.parametrize(
    ("symmetry", "axes"), [("C2", 0.5), ("D2", 1.5), ("C4", 2.5), ("T", 41 / 6)]
)
def test_symmetry_leaves_what_burnside_counts(symmetry: str, axes: float) -> None:
    """(v + sum of 1 / (2 sin^2(alpha / 2))) / g, 1 / 2 for half a turn, 2 / 3 for a third, 1 for a quarter; at least 1."""
    group, mask = point_group(symmetry), torch.ones(16, 16, 16)
    expected = ((independent_numbers(mask) + axes) / len(group)).clamp(min=1)
    assert torch.allclose(independent_numbers(mask, group), expected)
    assert expected[0] == 1


def test_noise_that_fills_a_sphere_is_as_noise_in_a_mask() -> None:
    ball = soft_sphere(48, 12, 4)
    halves = torch.randn(2, 48, 48, 48, generator=torch.Generator().manual_seed(1)) * ball
    profile = noise_profile(halves)
    assert profile[3:10].numpy() == pytest.approx(2, rel=0.25) and profile[18:].max() == 0
    whole = independent_numbers(torch.ones(48, 48, 48), None, profile)
    assert (whole / independent_numbers(ball))[1:].numpy() == pytest.approx(1, abs=0.1)
    assert noise_share(ball, torch.ones(25)) == pytest.approx(float(ball.square().mean()), rel=1e-4)


def test_radii_are_the_same_in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise whose standard deviation is its distance from the middle, in slabs of two rows."""
    box, mask = 13, soft_sphere(13, 4, 2)
    x = (torch.arange(box) - box // 2).double()
    radius = (x[:, None, None] ** 2 + x[:, None] ** 2 + x**2).sqrt().round()
    halves = torch.stack([radius, torch.zeros_like(radius)])
    whole = independent_numbers(mask, None, noise_profile(halves))
    monkeypatch.setattr(transforms, "SLAB", 2 * box * box)
    profile = noise_profile(halves)
    assert profile[:6].tolist() == pytest.approx([r**2 for r in range(6)])
    assert torch.allclose(independent_numbers(mask, None, profile), whole)
    outside = noise_share(1 - (radius < 3).double(), profile.clamp(max=1))
    assert outside == pytest.approx(1 - float(((radius > 0) & (radius < 3)).sum()) / (box**3 - 1))


def test_the_last_layer_of_a_box_counts_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on the coarse grid, whose last voxels are half as wide where the box is odd."""
    monkeypatch.setattr(significance, "MAX_GRID_EDGE", 15)
    layer = torch.zeros(31, 31, 31)
    layer[-1] = 1
    far, near = independent_numbers(layer), independent_numbers(layer.flip(0))
    assert torch.allclose(far, near, rtol=1e-6) and far[1:].min() > 1


def test_shells_share_volume_with_themselves_as_far_as_they_are_thick() -> None:
    shells, distance = torch.tensor([0.0, 5.0]), torch.tensor([0.0, 20.0])
    overlap = shell_overlap(shells.double(), distance.double())
    assert overlap[0, 0] == pytest.approx(math.pi / 6)
    assert overlap[1].tolist() == pytest.approx([4 * math.pi * 25 + math.pi / 3, 0])


def test_shells_share_volume_as_balls_do() -> None:
    """Of balls by their caps: V = sum pi h^2 (3 r - h) / 3, h = r - (q^2 + r^2 - other^2) / 2q."""

    def ball(a: float, b: float, q: float) -> float:
        if q <= abs(a - b):
            return 4 / 3 * math.pi * min(a, b) ** 3
        caps = [(r, r - (q * q + r * r - o * o) / (2 * q)) for r, o in ((a, b), (b, a))]
        return sum(math.pi * h**2 * (3 * r - h) / 3 for r, h in caps) if q < a + b else 0.0

    for shell in (0.0, 1.0, 2.0, 7.0):
        for q in (0.3, 0.99, 1.01, 1.7, 3.5, 12.0, 16.0):
            a, b = shell + 0.5, max(shell - 0.5, 0)
            between = 2 * ball(a, b, q) if b else 0.0
            expected = ball(a, a, q) - between + (ball(b, b, q) if b else 0.0)
            found = shell_overlap(*torch.tensor([[shell], [q]], dtype=torch.float64))
            assert float(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("box", [20, 24, 25])
def test_a_long_mask_counts_alike_along_each_axis(box: int) -> None:
    x = torch.arange(box) - box // 2
    long = (x.abs() < 9)[:, None, None] & (x.abs() < 3)[:, None] & (x.abs() < 1)
    numbers = independent_numbers(long.float())
    for order in ((1, 2, 0), (2, 0, 1), (2, 1, 0)):
        turned = independent_numbers(long.float().permute(order))
        assert torch.allclose(turned, numbers, rtol=1e-6)


def test_the_band_is_three_standard_errors_and_never_above_one() -> None:
    numbers = torch.tensor([1.0, 2.0, 11.0, 902.0]).double()
    assert noise_band(numbers).tolist() == pytest.approx([1, 1, math.tanh(1), math.tanh(0.1)])


def test_a_claim_takes_significance_too() -> None:
    curve = torch.tensor([1, 0.99, 0.95, 0.9, 0.6, 0.3, 0.2, 0.1, 0.3]).double()
    none, wide = torch.zeros(9).double(), torch.full((9,), 0.35).double()
    assert claimed_shell(curve, none) == 6
    assert claimed_shell(curve, wide) == 4
    assert claimed_shell(curve, torch.ones(9).double()) is None
    # the low shells of a symmetric map hold too few numbers to testify, which is no reason to stop at them
    few = torch.tensor([1, 1, 1, 0.95, 0.5, 0.3, 0.25, 0.2, 0.2]).double()
    assert claimed_shell(curve, few) == 5
    # what both halves were aligned to they have in common
    assert claimed_shell(curve, none, shared=3.0) == 6
    assert claimed_shell(curve, none, shared=3.1) is None


def test_what_leans_to_agree_in_every_shell_is_no_claim() -> None:
    """Noise that was refined against one reference: two standard errors in each shell, three in a few."""
    band = torch.full((40,), 0.7).double()
    one = torch.tanh(torch.tensor(0.7).double().atanh() / 3)  # a standard error

    def curve(errors: list[float]) -> torch.Tensor:
        beyond = torch.tensor(errors).double() * one.atanh()
        return torch.cat([torch.ones(11).double(), beyond.tanh(), torch.zeros(29 - len(errors))])

    assert claimed_shell(curve([2.1, 1.9, 2.1, 2.2, 3.4, 3.4, 3.1]), band, shared=9.4) is None
    assert claimed_shell(curve([6.9, 5.7, 5.5, 4.0]), band, shared=9.4) == 14
    # nothing is known of what they share
    assert claimed_shell(curve([2.1, 1.9, 2.1, 2.2, 3.4, 3.4, 3.1]), band) == 17


def beyond_shared(errors: list[float], band: list[float]) -> int | None:
    """The claim where half sets share nine shells, and the next ones reach so many standard errors of their band."""
    bands = torch.tensor([0.7] * 11 + band + [0.7] * 3).double()
    reached = torch.tanh(torch.tensor(errors).double() / 3 * bands[11 : 11 + len(errors)].atanh())
    curve = torch.cat([torch.ones(11).double(), reached, torch.zeros(3).double()])
    return claimed_shell(curve, bands, shared=9.4)


def test_the_first_shell_beyond_what_is_shared_counts_too() -> None:
    assert beyond_shared([12.0, 1.5, 1.5, 3.1], [0.7] * 4) == 14
    assert beyond_shared([8.0, 1.5, 1.5, 3.1], [0.7] * 4) is None  # 14.1 where 15 is needed
    # and the next one after the last does not: 14 where 13 is needed of three, 15 of four
    assert beyond_shared([6.0, 4.0, 4.0], [0.7] * 3) == 13


def test_one_shell_of_full_agreement_does_not_carry_the_others() -> None:
    """A correlation of 1 counts as one of 0.999, which is 13 standard errors here."""
    assert beyond_shared([99.0] + [0.6] * 20 + [3.1], [0.7] * 22) is None
    assert beyond_shared([99.0] + [0.6] * 2 + [3.1], [0.7] * 4) == 14


def test_shells_of_no_numbers_are_not_counted() -> None:
    bands = torch.tensor([0.7] * 11 + [1.0, 1.0, 0.7, 0.7, 0.7, 0.7]).double()
    curve = torch.tensor([1.0] * 11 + [0.2, 0.2, 0.97, 0.95, 0.0, 0.0]).double()
    # 7.2 and 6.3 standard errors: enough of two shells, not of four
    assert claimed_shell(curve, bands, shared=9.4) == 14


def test_a_value_on_the_band_is_above_it() -> None:
    """Also where the band is exactly at 0.5, from which on a shell cannot testify against."""
    curve = torch.tensor([1, 0.9, 0.35, 0.1, 0.9]).double()
    assert claimed_shell(curve, torch.full((5,), 0.35).double()) == 2
    curve = torch.tensor([1, 0.9, 0.4, 0.6, 0.1, 0.9]).double()
    assert claimed_shell(curve, torch.full((6,), 0.5).double()) == 1
    assert claimed_shell(curve, torch.full((6,), 0.51).double()) == 3


def test_icosahedral_maps_show_no_hand_below_degree_15() -> None:
    """The Molien series (1 + t^15) / (1 - t^6)(1 - t^10) has no odd degree below 15, that of the octahedral group none below 9."""
    for name, lowest in (("I", 15), ("O", 9), ("D2", 3), ("C1", 1)):
        count = antisymmetric_numbers(48, 12.0, point_group(name), torch.eye(3), True)
        x = 2 * math.pi * 12 / 48 * torch.arange(25)
        assert (count[x < lowest] == 0).all() and (count[x > lowest + 2] > 0).all(), name


def test_half_of_the_noise_is_odd() -> None:
    """Far out, where mirror planes count little: half of what the shell of a sphere holds."""
    radius, group = 60.0, point_group("C2")
    odd = antisymmetric_numbers(128, radius, group, torch.eye(3), True)[60]
    numbers = 4 / 3 * math.pi * radius**3 / 128**3 * 4 * math.pi * 60**2 / 2
    assert float(odd) == pytest.approx(numbers / 2, rel=0.03)
