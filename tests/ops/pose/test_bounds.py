"""The bound's parts: rings, tables, and the noise that it counts on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Projector, extract_slices, projector
from cryotorch.ops.fourier.transforms import half_plane, pack, shift_phase
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.pose.bounds import (
    cell_change,
    headroom,
    ring_count,
    ring_number,
    ring_weight,
    view_power,
    views,
)
from cryotorch.ops.pose.scores import Observation

BOX = 24


@pytest.fixture(scope="module")
def slices() -> Projector:
    return projector(phantom(BOX, 4.0, torch.eye(3, dtype=torch.float64)[None]), 11)


def by_ring(power: Tensor, box: int = BOX) -> Tensor:
    ring = ring_number(box)[: power.shape[1]]
    return torch.stack([power[:, ring == r].sum(1) for r in range(ring_count(box))], 1)


def blob(at: tuple[float, float, float], width: float) -> Tensor:
    line = torch.arange(BOX) - BOX // 2.0
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    distance = (x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2
    return torch.exp(-distance / (2 * width**2))


@pytest.mark.parametrize("box", [24, 25])
def test_whole_limits_cut_between_rings(box: int) -> None:
    ring = ring_number(box)
    assert ring.min() == 1 and ring.max() == ring_count(box) - 1
    for limit in (1, 5, 11):
        assert half_plane(box).count(limit) == int((ring <= limit).sum())


def test_views_fill_a_hemisphere_evenly() -> None:
    direction = views(512)[:, 2]
    assert (direction[:, 2] > 0).all()
    moment = direction.mT @ direction / 512
    torch.testing.assert_close(moment, torch.eye(3) / 3, atol=0.01, rtol=0)


def test_half_of_the_noise_lies_along_a_slice(slices: Projector) -> None:
    """Variance of <n, g> is <g, g> / 2: sigma2 is that of a complex coefficient, of which each pair k, -k is one."""
    generator = torch.Generator().manual_seed(1)
    sigma2 = 2.5
    noise = pack(sigma2**0.5 * torch.randn(4000, BOX, BOX, generator=generator))
    g = extract_slices(slices, views(5), half_plane(BOX).frequency)
    along = (noise @ g.conj().T).real / sigma2
    expected = 0.5 * g.abs().square().sum(1) / sigma2
    torch.testing.assert_close(along.var(0), expected, rtol=0.1, atol=0)


def test_what_the_truth_gains_over_the_centre_of_its_cell(slices: Projector) -> None:
    """Mean x and variance x, x = Q + D, with a lens, over draws of the noise."""
    generator = torch.Generator().manual_seed(2)
    frequency, low = half_plane(BOX).frequency, half_plane(BOX).count(6)
    gain = torch.cos(half_plane(BOX).radius ** 2 / 20)
    rotation = views(2)
    rotation[1] = (
        torch.linalg.matrix_exp(torch.tensor([[0, -0.1, 0], [0.1, 0, 0.1], [0, -0.1, 0]]))
        @ rotation[0]
    )
    f, c = (extract_slices(slices, rotation, frequency) * gain * 8).unbind()
    c = c * shift_phase(torch.tensor([0.5, -0.3]), BOX)
    y = f + pack(torch.randn(4000, BOX, BOX, generator=generator))
    score = (y.conj() @ f).real - 0.5 * f.abs().square().sum()
    score_low = (y[:, :low].conj() @ c[:low]).real - 0.5 * c[:low].abs().square().sum()
    gained = score - score_low
    x = 0.5 * f[low:].abs().square().sum() + 0.5 * (f - c)[:low].abs().square().sum()
    assert 3 < x < 60
    assert gained.mean() == pytest.approx(float(x), abs=0.1 * float(x.sqrt()))
    assert gained.var() == pytest.approx(float(x), rel=0.1)
    assert (gained > headroom(x)).sum() <= 2
    assert headroom(torch.tensor(9.0)) == 9 + 4 * 3


def test_tables_hold_for_slices_that_were_not_in_them(slices: Projector) -> None:
    frequency = half_plane(BOX).frequency[: half_plane(BOX).count(11)]
    power = by_ring(extract_slices(slices, views(512), frequency).abs().square())
    torch.testing.assert_close(view_power(slices), power, rtol=1e-4, atol=1e-2)
    rotation = random_rotations(500, torch.Generator().manual_seed(3))
    other = by_ring(extract_slices(slices, rotation, frequency).abs().square())
    beyond = (view_power(slices)[:, 7:].sum(1).amax(), other[:, 7:].sum(1).amax())
    assert beyond[1] < 1.02 * beyond[0] and beyond[0] < 1.3 * beyond[1]


def test_a_ring_counts_by_the_mean_of_its_lens(slices: Projector) -> None:
    """A slice weighs what its ring powers times mean weights say, to a tenth or so, but for the smallest rings."""
    frequency = half_plane(BOX).frequency
    gain = torch.sin(half_plane(BOX).radius ** 2 / 8 + 0.3 * frequency[:, 0] / 12)[None]
    precision = 1 / (1 + half_plane(BOX).radius / 12)[None]
    seen = Observation(torch.zeros_like(gain) + 0j, gain, precision, BOX)
    rotation = random_rotations(200, torch.Generator().manual_seed(4))
    power = extract_slices(slices, rotation, frequency).abs().square() * (
        half_plane(BOX).radius > 4
    )
    exact = (power * gain**2 * precision).sum(1)
    kept = by_ring(power) @ ring_weight(seen)[0]
    ratio = kept / exact
    assert ratio.median() == pytest.approx(1, abs=0.1) and (ratio - 1).abs().max() < 0.2


def test_change_grows_with_the_cell_and_ends_at_the_limit(slices: Projector) -> None:
    none = cell_change(slices, 9, 0.0, 0.0, n=64)
    small, large = (cell_change(slices, 9, edge, 10 * edge, n=64) for edge in (0.02, 0.04))
    assert none.abs().max() < 1e-3
    assert (large[:, 10:] == 0).all() and (large[:, 1:10] > 0).all()
    ratio = large[:, 1:10].sum(1) / small[:, 1:10].sum(1)
    assert 3.5 < ratio.median() < 4.1  # quadratic


def test_change_by_a_shift_alone_is_that_of_its_phase(slices: Projector) -> None:
    """At most |2 pi k.s / d|^2 of the power, s in the corner; on average over the square a third of it, and half along k."""
    moved = cell_change(slices, 9, 0.0, 0.5, n=256)[:, 1:10].mean(0)
    power = view_power(slices, 256)[:, 1:10].mean(0)
    corner = (2 * torch.pi / BOX * torch.arange(1, 10)) ** 2 * 0.125
    # a ring holds radii down to one less than its number
    assert (moved < corner * power / 6 * 1.1).all()
    assert (moved[3:] > 0.7 * corner[3:] * power[3:] / 6).all()


def test_turning_about_the_fulcrum_leaves_what_is_there(slices: Projector) -> None:
    at = (4.0, -3.0, 2.0)
    there = projector(blob(at, 1.5), 9)
    about_box, about_it = (
        cell_change(there, 9, 0.2, 0.0, f, 64).sum(1).mean() for f in ((0.0,) * 3, at)
    )
    assert about_it < 0.02 * about_box
