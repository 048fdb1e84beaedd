"""The local Wiener filter against closed forms and against the global one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.ops.resolution.local_wiener import SHARES, local_wiener, signal_share

BOX, PX = 64, 3.0
SNR = torch.tensor(
    [200.0 * 0.85**k for k in range(BOX // 2 + 1)]
)  # of a half map within the particle
FSC = (SNR / (1 + SNR)).double()


def noise(seed: int) -> Tensor:
    return torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(seed))


def particle(*loudness: float) -> tuple[Tensor, Tensor, list[Tensor]]:
    """A texture of the power SNR in soft balls, as loud as given, one beside the other; half maps in white noise; the balls."""
    texture = filter_shells(noise(0), SNR.sqrt())
    ball = soft_sphere(BOX, 9, 3)
    places = [0] if len(loudness) == 1 else [-14, 14]
    balls = [ball.roll(place, -1) for place in places]
    signal = texture * sum(b * x for b, x in zip(balls, loudness, strict=True))
    return signal, torch.stack([signal + noise(1), signal + noise(2)]), balls


@pytest.mark.parametrize("n_halves", [1, 2])
@pytest.mark.parametrize("value", [None, *SHARES, 0.4, 2.0, 1e-9, 1e9])
def test_one_share_everywhere_is_the_global_filter(value: float | None, n_halves: int) -> None:
    volume = noise(3)
    share = None if value is None else torch.full_like(volume, value)
    found = local_wiener(volume, FSC, share, n_halves)
    inside = min(max(1.0 if value is None else value, SHARES[0]), SHARES[-1])
    snr = n_halves * inside * FSC.clamp(0.001, 0.999) / (1 - FSC.clamp(0.001, 0.999))
    wanted = filter_shells(volume, (snr / (1 + snr)).float())
    at_node = value is None or any(abs(inside - s) < 1e-9 for s in SHARES)
    assert (found - wanted).std() < (1e-6 if at_node else 0.045) * volume.std()


def test_the_share_is_the_power_of_each_part() -> None:
    """A part of half the amplitude has a quarter of the power, the solvent none; the mean in the mask is 1."""
    _, maps, (loud, quiet) = particle(1.0, 0.5)
    mask = loud + quiet
    share = signal_share(maps, PX, FSC, mask)
    core = soft_sphere(BOX, 6, 0)
    strong, weak = (float((share * core.roll(at, -1)).sum() / core.sum()) for at in (-14, 14))
    assert 3 < strong / weak < 5
    solvent = soft_sphere(BOX, 30, 0) * (mask.roll(16, -2) > 0.99)
    assert float((share * solvent).sum() / solvent.sum()) < 0.2 * weak
    assert float((share * mask).sum() / mask.sum()) == pytest.approx(1, abs=0.05)
    # neither grey scale nor order matter
    torch.testing.assert_close(signal_share(1e-3 * maps.flip(0), PX, FSC, mask), share)


@pytest.mark.parametrize("loudness", [(1.0,), (1.0, 0.4)])
def test_a_particle_in_a_larger_box_comes_out_better(loudness: tuple[float, ...]) -> None:
    """Of the error that the global filter leaves in the whole box three quarters go, and within the particle nothing is lost."""
    signal, maps, balls = particle(*loudness)
    share = signal_share(maps, PX, FSC, sum(balls))
    error = {}
    for name, where in (("global", None), ("local", share)):
        off = local_wiener(maps[0], FSC, where, 1) - signal
        inside = sum(balls) > 0.5
        error[name] = float(off.square().mean()), float(off[inside].square().mean())
    assert error["local"][0] < 0.3 * error["global"][0]
    assert error["local"][1] < 1.05 * error["global"][1]


def test_noise_is_given_no_place() -> None:
    """Where nothing is shared no place stands out enough for the filtered maps of noise to agree."""
    maps = torch.stack([noise(1), noise(2)])
    share = signal_share(maps, PX, FSC, soft_sphere(BOX, 20, 4))
    filtered = [local_wiener(m, FSC, share, 1) for m in maps]
    assert shell_correlation(*filtered)[4:].abs().max() < 0.25


def test_a_coarse_fsc_or_none_at_all_says_nothing() -> None:
    _, maps, (ball,) = particle(1.0)
    coarse = torch.where(torch.arange(BOX // 2 + 1) < BOX * PX / 20 + 2, FSC, 0.0)
    assert signal_share(maps, PX, coarse, ball) is None
    assert signal_share(maps, PX, torch.zeros_like(FSC), ball) is None
    opposed = torch.stack([maps[0], -maps[0]])
    assert signal_share(opposed, PX, FSC, ball) is None
