"""Local resolution where the local cut-offs are known, and the low-pass that follows it."""

from __future__ import annotations

import time

import pytest
import torch

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.local_resolution import (
    NOISE_SCATTER,
    _correlation,
    local_low_pass,
    local_resolution,
)

PX = 1.5


def noise(box: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, box, box, box, generator=torch.Generator().manual_seed(seed))


def two_parts(box: int, low: float, high: float, level: float) -> torch.Tensor:
    """Half maps (2, d, d, d) of a texture that ends at ``low`` Å below the middle in z, at ``high`` Å above."""
    texture = noise(box, 1)[0]
    below = (torch.arange(box) < box // 2).float()[:, None, None]
    signal = below * low_pass(texture, PX, low) + (1 - below) * low_pass(texture, PX, high)
    return signal + level * noise(box, 2, seed=1)


def fsc_half(cutoff: float, level: float) -> float:
    """Å where the FSC of a texture of power 1 / (1 + q^16) with white noise of power level^2 is 0.5."""
    return cutoff / (1 / level**2 - 1) ** (1 / 16)


@pytest.mark.parametrize(("box", "level"), [(80, 0.5), (80, 0.2), (75, 0.5)])
def test_two_parts_have_their_own_resolution(box, level):
    found = local_resolution(two_parts(box, 5.0, 9.0, level), PX)
    assert found.shape == (box,) * 3
    margin = round(0.12 * box)  # the window of the coarser part ends here
    below, above = found[margin : box // 2 - margin], found[box // 2 + margin : -margin]
    for part, cutoff in ((below, 5.0), (above, 9.0)):
        assert float(part.median()) == pytest.approx(fsc_half(cutoff, level), rel=0.04)
        scatter = part.flatten().double().quantile(torch.tensor([0.05, 0.95]).double())
        assert scatter.numpy() == pytest.approx(fsc_half(cutoff, level), rel=0.08)
    assert float(below.max()) < float(above.min())


def test_noise_has_no_resolution():
    halves = noise(64, 2)
    assert float(local_resolution(halves, PX, coarsest=20).min()) > 19
    chance = local_resolution(halves, PX, threshold=0.143, coarsest=20)
    assert float(chance.min()) < 19  # what the docstring says of this threshold


def test_a_mask_keeps_the_solvent_out():
    """A small ball of texture in noise: without a mask the windows hold more solvent than ball."""
    box = 64
    ball = soft_sphere(box, 16, 2)
    halves = 3 * low_pass(noise(box, 1)[0], PX, 5.0) * ball + noise(box, 2, seed=3)
    free, masked = local_resolution(halves, PX), local_resolution(halves, PX, mask=ball)
    surface = (ball > 0.9) & (soft_sphere(box, 12, 0) == 0)
    true = fsc_half(5.0, 1 / 3)
    for part in (surface, ball > 0.9):
        assert float(masked[part].median()) == pytest.approx(true, rel=0.03)
        assert float(free[part].median()) > 2 * true
    corner = (slice(0, 6),) * 3
    assert float(masked[corner].min()) > 20


def test_limits_and_refusals():
    same = noise(48, 1)[0]
    halves = torch.stack([same, same + 1e-3 * noise(48, 1, seed=5)[0]])
    assert float((local_resolution(halves, PX) - 2 * PX).abs().max()) < 1e-4
    assert float((local_resolution(halves, PX, finest=6.0) - 6.0).abs().max()) < 1e-4
    # four waves of the coarsest band fit into the box
    assert float(local_resolution(noise(48, 2, seed=9), PX, coarsest=99).max()) < 48 * PX / 4 + 1e-3
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        local_resolution(halves, PX, threshold=2)
    # nothing in 48 Å: the coarsest band
    assert local_resolution(torch.zeros(2, 32, 32, 32), PX).unique().tolist() == [12.0]


def test_local_low_pass_is_the_low_pass_where_the_resolution_is_one():
    volume = noise(40, 1)[0]
    assert torch.allclose(
        local_low_pass(volume, PX, torch.full((40,) * 3, 6.0)), low_pass(volume, PX, 6.0), atol=1e-6
    )
    # two regions: inside each the plain filter of its own resolution
    cutoff = torch.where(torch.arange(40) < 20, 4.0, 9.0)[:, None, None].expand(40, 40, 40)
    found = local_low_pass(volume, PX, cutoff)
    for rows, value in ((slice(0, 20), 4.0), (slice(20, 40), 9.0)):
        assert torch.allclose(found[rows], low_pass(volume, PX, value)[rows], atol=1e-5)
    # between two filters of the bank: a blend, close to the filter itself
    between = torch.full((40,) * 3, 6.3)
    between[0] = 4.0
    difference = local_low_pass(volume, PX, between) - low_pass(volume, PX, 6.3)
    assert float(difference[1:].std()) < 0.03 * float(low_pass(volume, PX, 6.3).std())


def test_local_low_pass_improves_a_map_of_two_parts():
    """Against the noise-free map: less error than any one low-pass of the whole map."""
    box, level = 64, 0.7
    texture = noise(box, 1)[0]
    below = (torch.arange(box) < box // 2).float()[:, None, None]
    truth = below * low_pass(texture, PX, 4.0) + (1 - below) * low_pass(texture, PX, 9.0)
    halves = truth + level * noise(box, 2, seed=1)
    mean = halves.mean(0)
    local = local_low_pass(mean, PX, local_resolution(halves, PX))
    error = float((local - truth).square().mean())
    best = min(float((low_pass(mean, PX, r) - truth).square().mean()) for r in (4, 5, 6, 7, 9))
    assert error < 0.8 * best


@pytest.mark.slow
def test_it_is_quick():
    halves = two_parts(128, 5.0, 9.0, 0.3)
    start = time.process_time()
    local_low_pass(halves[0], PX, local_resolution(halves, PX))
    assert time.process_time() - start < 30  # 3 s on one idle core


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees():
    halves = two_parts(64, 5.0, 9.0, 0.3)
    host = local_resolution(halves, PX)
    device = local_resolution(halves.cuda(), PX).cpu()
    assert float(((host - device).abs() > 0.05).float().mean()) < 1e-3


def test_noise_scatters_as_said():
    """By the standard deviation that thresholds are held against, within a mask that cuts some windows."""
    ball = soft_sphere(64, 16, 2)
    values = _correlation(noise(64, 2, seed=3), ball, 64 * PX / 4.0)[ball > 0.5]
    assert float(values.std()) == pytest.approx(NOISE_SCATTER, rel=0.25)
