"""Filters, the Guinier fit and sharpening against closed forms."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch

from cryotorch.findings import Finding
from cryotorch.ops.fourier.filters import (
    _inflation,
    filter_shells,
    fsc_weight,
    guinier_fit,
    high_pass,
    low_pass,
    radial_amplitude,
    sharpen,
    whitened,
)
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import resolution, shell_correlation

PX = 1.2


def noise(box: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(box, box, box, generator=generator, dtype=dtype)


def wave_number(box: int) -> torch.Tensor:
    k = torch.fft.fftfreq(box, 1 / box, dtype=torch.float64)
    half = torch.fft.rfftfreq(box, 1 / box, dtype=torch.float64)
    return (k[:, None, None] ** 2 + k[None, :, None] ** 2 + half**2).sqrt()


def gain(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    return (torch.fft.rfftn(after) / torch.fft.rfftn(before)).real


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("order", [4, 8])
def test_low_pass_has_the_gain_it_promises(box, order):
    volume, k = noise(box), wave_number(box)
    q = k * 4.0 / (box * PX)
    expected = {
        "butterworth": 1 / torch.sqrt(1 + q ** (2 * order)),
        "gaussian": torch.exp(-math.log(2) / 2 * q**2),
        "rectangular": (q <= 1).double(),
    }
    for kind, want in expected.items():
        found = gain(low_pass(volume, PX, 4.0, kind, order), volume)
        assert torch.allclose(found, want, atol=1e-9), kind
    with pytest.raises(ValueError, match="got 'boxcar'"):
        low_pass(volume, PX, 4.0, "boxcar")


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("kind", ["butterworth", "gaussian", "rectangular"])
def test_high_pass_takes_the_power_that_the_low_pass_leaves(box, kind):
    volume = 3 + noise(box)
    low, high = (gain(f(volume, PX, 6.0, kind, 4), volume) for f in (low_pass, high_pass))
    assert torch.allclose(low**2 + high**2, torch.ones_like(low), atol=1e-9)
    assert abs(float(high_pass(volume, PX, 6.0, kind, 4).mean())) < 1e-9
    k = wave_number(box) * 6.0 / (box * PX)
    if kind == "butterworth":
        assert torch.allclose(high, k**4 / torch.sqrt(1 + k**8), atol=1e-9)


def test_low_pass_of_a_centred_gaussian_stays_centred():
    box, sigma = 32, 2.0
    line = torch.arange(box, dtype=torch.float64) - box // 2
    one = torch.exp(-(line**2) / (2 * sigma**2))
    volume = one[:, None, None] * one[None, :, None] * one
    # multiplying by 2^(-(k r)^2 / 2) widens a Gaussian: sigma^2 + ln 2 r^2 / (2 pi)^2
    wide2 = sigma**2 + math.log(2) * 8.0**2 / (2 * math.pi) ** 2
    expected = (sigma**2 / wide2) ** 1.5 * torch.exp(
        -(line[:, None, None] ** 2 + line[None, :, None] ** 2 + line**2) / (2 * wide2)
    )
    assert torch.allclose(low_pass(volume, 1.0, 8.0, "gaussian"), expected, atol=1e-6)


@pytest.mark.parametrize("box", [16, 17])
def test_filter_shells_multiplies_each_shell_and_empties_the_corners(box):
    volume, k = noise(box), wave_number(box)
    weight = torch.linspace(2, 0.5, box // 2 + 1, dtype=torch.float64)
    shell = (k + 0.5).floor().long()
    expected = torch.where(shell <= box // 2, weight[shell.clamp(max=box // 2)], 0.0)
    assert torch.allclose(gain(filter_shells(volume, weight), volume), expected, atol=1e-9)
    with pytest.raises(ValueError, match="shells"):
        filter_shells(volume, weight[:-1])


def test_radial_amplitude_of_one_voxel_is_flat():
    volume = torch.zeros(15, 15, 15)
    volume[3, 8, 11] = 2.5
    assert torch.allclose(radial_amplitude(volume), torch.full((8,), 2.5).double(), atol=1e-5)


def test_fsc_weight_is_zero_behind_the_first_empty_shell():
    weight = fsc_weight(torch.tensor([1.0, 0.5, 1 / 7, 0.0, 0.5]))
    assert weight.tolist() == pytest.approx([1, math.sqrt(2 / 3), 0.5, 0, 0])
    least = fsc_weight(torch.tensor([1e-4, 0.5, 0.9e-4, 0.5], dtype=torch.float64))
    assert least.tolist() == pytest.approx([math.sqrt(2e-4 / 1.0001), math.sqrt(2 / 3), 0, 0])


@pytest.mark.parametrize("planted", [40.0, 150.0])
def test_guinier_recovers_a_planted_bfactor_from_noisy_halves(planted):
    box = 64
    decay = torch.exp(-planted * (wave_number(box) / (box * PX)) ** 2 / 4)
    signal = torch.fft.irfftn(torch.fft.rfftn(noise(box)) * decay, s=(box,) * 3)
    level = 0.5 * math.exp(-planted / (4 * 3.0**2))  # SNR of a half map is 4 at 3 Å
    halves = torch.stack([signal + level * noise(box, seed) for seed in (1, 2)])
    curve = shell_correlation(*halves)
    fit = guinier_fit(halves.mean(0), curve, PX, resolution=3.0)
    assert fit.bfactor == pytest.approx(-planted, rel=0.04) and fit.reason is None
    d = 1 / fit.inverse_d2[fit.used].sqrt()
    assert d.max() <= 10.001 and d.min() >= 2.999
    # the mean of |F| of complex noise with <|F|^2> = box^3 is sqrt(pi box^3) / 2
    assert fit.intercept == pytest.approx(math.log(math.sqrt(math.pi * box**3) / 2), abs=0.05)
    unsharpened = guinier_fit(halves.mean(0), torch.ones_like(curve), PX, resolution=3.0)
    assert unsharpened.bfactor > fit.bfactor + 1  # without the weight noise lifts the tail


@pytest.mark.parametrize("together", [0.0, 0.7])
def test_the_error_of_a_b_factor_covers_residuals_that_go_together(together: float) -> None:
    """Lines of slope zero with residuals of an autoregression: a quarter at most lies beyond two standard errors, of plain ones a third at least."""
    draw = torch.Generator().manual_seed(2)
    x = (torch.arange(12, 42).double() / 120).square()
    x -= x.mean()
    beyond, plain = [], []
    for _ in range(400):
        e = [torch.randn((), generator=draw, dtype=torch.float64)]
        for step in torch.randn(29, generator=draw, dtype=torch.float64):
            e.append(together * e[-1] + math.sqrt(1 - together**2) * step)
        y = torch.stack(e) - torch.stack(e).mean()
        slope = float((x * y).sum() / x.square().sum())
        left = y - slope * x
        error = math.sqrt(float(left.square().sum() / 28 / x.square().sum()))
        plain.append(abs(slope) > 2 * error)
        beyond.append(abs(slope) > 2 * error * _inflation(left))
    assert sum(beyond) / 400 < (0.07 if together == 0 else 0.25)
    assert together == 0 or sum(plain) / 400 > 0.35


def test_guinier_fit_is_scipys_line():
    """Slope, intercept and standard error, over the shells from 10 Å to 3 Å."""
    box, volume = 48, noise(48)
    curve = torch.linspace(1, 0.1, box // 2 + 1, dtype=torch.float64)
    fit = guinier_fit(volume, curve, PX, resolution=3.0)
    shell = torch.arange(box // 2 + 1, dtype=torch.float64)
    d = box * PX / shell
    assert torch.equal(fit.used, (d <= 10) & (d >= 3))
    x = (1 / d**2)[fit.used]
    y = (fsc_weight(curve) * radial_amplitude(volume)).log()[fit.used]
    line = scipy.stats.linregress(x.numpy(), y.numpy())
    left = y.numpy() - line.intercept - line.slope * x.numpy()
    r = min(max((left[1:] * left[:-1]).sum() / (left**2).sum(), 0), 0.9)
    found = (fit.bfactor / 4, fit.intercept, fit.error / 4 / math.sqrt((1 + r) / (1 - r)))
    assert found == pytest.approx((line.slope, line.intercept, line.stderr), rel=1e-5)
    # 42 Å: the shell at 10.5 Å is too coarse, the next one at 8.4 Å is not
    coarse = guinier_fit(noise(28), torch.ones(15), 1.5, resolution=4.0)
    assert coarse.used.nonzero()[[0, -1], 0].tolist() == [5, 10]
    whole = guinier_fit(volume, curve, 1.25, resolution=3.0, coarsest=6.0)  # shells 10 to 20
    assert whole.used.nonzero()[[0, -1], 0].tolist() == [10, 20]


def test_guinier_wants_map_and_curve_under_one_mask():
    box, planted = 64, 120.0
    decay = torch.exp(-planted * (wave_number(box) / (box * PX)) ** 2 / 4)
    mask = soft_sphere(box, 12, 6).double()
    signal = mask * torch.fft.irfftn(torch.fft.rfftn(noise(box)) * decay, s=(box,) * 3)
    halves = torch.stack([signal + 0.05 * noise(box, seed) for seed in (1, 2)])
    curve = shell_correlation(*(halves * mask))
    same = guinier_fit(halves.mean(0) * mask, curve, PX, resolution=3.0)
    assert same.bfactor == pytest.approx(-planted, rel=0.08)
    other = guinier_fit(halves.mean(0), curve, PX, resolution=3.0)
    assert other.bfactor > -0.8 * planted


def test_guinier_refuses_what_cannot_be_fitted():
    volume, curve = noise(32), torch.ones(17)
    coarse = guinier_fit(volume, curve, 3.0, resolution=12.0)
    assert coarse.bfactor is None
    assert coarse.reason == Finding("fit_coarse", resolution=12.0, coarsest=10.0)
    few = guinier_fit(volume, curve, 1.0, resolution=6.0)
    assert few.bfactor is None and few.reason.code == "fit_short" and few.reason["shells"] == 2
    assert not math.isnan(float(few.log_amplitude[1]))
    edge = guinier_fit(volume, curve, 1.25, resolution=10.0)  # one shell lies there
    assert edge.bfactor is None and edge.reason["shells"] == 1


def test_guinier_leaves_out_shells_without_signal():
    volume = noise(48)
    curve = torch.where(torch.arange(25) < 14, 0.5, 0.0)
    fit = guinier_fit(volume, curve, 1.25, resolution=3.0)
    assert fit.used.nonzero()[[0, -1], 0].tolist() == [6, 13]
    assert fit.bfactor == guinier_fit(volume, curve, 1.25, resolution=60 / 13).bfactor
    assert fit.log_amplitude[14:].isnan().all()


def test_sharpen_is_weight_times_exponential_times_butterworth():
    box, bfactor, cut = 32, -90.0, 3.5
    volume = noise(box)
    curve = torch.linspace(1, 0.1, box // 2 + 1, dtype=torch.float64)
    k = wave_number(box)
    shell = (k + 0.5).floor().long().clamp(max=box // 2)
    weight = torch.sqrt(2 * curve / (1 + curve))[shell] * ((k + 0.5).floor() <= box // 2)
    s = k / (box * PX)
    expected = weight * torch.exp(90 * s**2 / 4) / torch.sqrt(1 + (s * cut) ** 16)
    found = gain(sharpen(volume, PX, bfactor, curve, cut), volume)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_sharpening_undoes_a_planted_decay():
    box = 48
    decay = torch.exp(-60 * (wave_number(box) / (box * PX)) ** 2 / 4)
    volume = torch.fft.irfftn(torch.fft.rfftn(noise(box)) * decay, s=(box,) * 3)
    curve = torch.ones(box // 2 + 1, dtype=torch.float64)
    fit = guinier_fit(volume, curve, PX, resolution=3.0)
    flat = radial_amplitude(sharpen(volume, PX, fit.bfactor, curve, 2.4))[6:18]
    assert flat.std() / flat.mean() < 0.03


def test_a_huge_bfactor_is_applied_as_in_double_precision():
    curve = torch.zeros(17)
    curve[:6] = 0.9
    found, exact = (
        sharpen(values, 0.5, -800.0, curve, 3.0) for values in (noise(32).float(), noise(32))
    )
    assert float((found - exact).abs().max()) < 1e-6 * float(exact.abs().max())


def test_low_pass_at_the_resolution_of_a_curve_changes_nothing_before_it():
    volume = noise(32)
    curve = torch.where(torch.arange(17) < 9, 1.0, 0.0)
    cut = resolution(curve, 32, PX)
    found = gain(low_pass(volume, PX, cut), volume)
    assert found[wave_number(32) < 6].min() > 0.98 and found[wave_number(32) > 12].max() < 0.12


@pytest.mark.parametrize("order", [4, 8])
def test_sharpen_without_a_curve_holds_the_exponential_at_the_resolution(order):
    """Finely sampled: the exponential alone would reach e^45 at Nyquist."""
    box, px, cut = 32, 0.5, 3.0
    volume, k = noise(box), wave_number(box) / (box * px)
    expected = torch.exp(180 / 4 * k.clamp(max=1 / cut) ** 2) / torch.sqrt(
        1 + (k * cut) ** (2 * order)
    )
    found = gain(sharpen(volume, px, -180.0, None, cut, order), volume)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_whitened_shells_are_alike_as_far_as_there_is_anything() -> None:
    volume = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(1))
    fading = filter_shells(volume, torch.exp(-0.5 * torch.arange(13.0)))
    amplitude = radial_amplitude(whitened(fading))
    assert amplitude[0] < 1e-4 and amplitude[10:].max() < 0.1 * amplitude[3]  # e^-4 < 0.02
    assert amplitude[1:8] / amplitude[1:8].mean() == pytest.approx(torch.ones(7).double(), abs=0.1)
