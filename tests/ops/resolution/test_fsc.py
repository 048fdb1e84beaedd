"""FSC: a dense float64 reference, closed forms, a real curve, and what a mask must not earn."""

from __future__ import annotations

import time
from pathlib import Path

import numpy
import pytest
import torch

from cryotorch.ops.fourier import transforms
from cryotorch.ops.fourier.transforms import fft_volume, ifft_volume, volume_shells
from cryotorch.ops.masks.soft import density_mask, soft_sphere
from cryotorch.ops.resolution.fsc import (
    correct_for_mask,
    corrected_fsc,
    crossing_shell,
    first_randomised_shell,
    fsc_curves,
    phase_randomise,
    resolution,
    shell_correlation,
)
from cryotorch.results import CURVES

DATA = Path(__file__).parents[4] / "shared" / "data"


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(box: int, seed: int, n: int = 2) -> torch.Tensor:
    return torch.randn(n, box, box, box, generator=seeded(seed))


def full_shells(box: int) -> numpy.ndarray:
    k = numpy.fft.fftfreq(box, 1 / box)
    radius = numpy.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k**2)
    return numpy.floor(radius + 0.5).astype(int)


def dense_fsc(a: torch.Tensor, b: torch.Tensor) -> numpy.ndarray:
    first, second = (numpy.fft.fftn(v.double().numpy()) for v in (a, b))
    shell, curve = full_shells(len(a)), []
    for s in range(len(a) // 2 + 1):
        u, v = first[shell == s], second[shell == s]
        curve.append(numpy.vdot(v, u).real / numpy.linalg.norm(u) / numpy.linalg.norm(v))
    return numpy.array(curve)


def smooth_object(box: int, seed: int, decay: float) -> torch.Tensor:
    """A soft ball of correlated noise: something a mask can surround."""
    k = torch.fft.fftfreq(box)
    k2 = k[:, None, None] ** 2 + k[None, :, None] ** 2 + torch.fft.rfftfreq(box) ** 2
    rough = torch.fft.irfftn(torch.fft.rfftn(noise(box, seed, 1)[0]) * torch.exp(-decay * k2))
    return (rough / rough.std() + 2) * soft_sphere(box, box / 5, 3)


@pytest.mark.parametrize("box", [12, 15, 32, 33])
def test_fsc_is_the_dense_float64_one(box):
    a = noise(box, 1)
    b = 0.7 * a + noise(box, 2)
    found = shell_correlation(a, b)
    assert found.shape == (2, box // 2 + 1)
    assert torch.equal(found[:, 0], torch.ones(2, dtype=torch.float64))
    for i in range(2):
        assert found[i, 1:].numpy() == pytest.approx(dense_fsc(a[i], b[i])[1:], abs=1e-6)
        assert torch.allclose(shell_correlation(a[i], b[i]), found[i], atol=1e-6)


def test_fsc_of_a_map_with_itself_its_negative_and_nothing():
    a = noise(16, 0, 1)[0]
    assert shell_correlation(a, 3 * a).numpy() == pytest.approx(1, abs=1e-6)
    assert shell_correlation(a, -a)[1:].numpy() == pytest.approx(-1, abs=1e-6)
    assert shell_correlation(a, torch.zeros_like(a))[1:].abs().max() == 0


@pytest.mark.parametrize("anisotropy", [0.0, 3.0])
def test_fsc_is_r_over_one_plus_r(anisotropy):
    """r = sum of signal power / sum of noise power over the shell: power is summed, ratios are not."""
    box = 64
    k = torch.fft.fftfreq(box, 1 / box)
    kx = torch.fft.rfftfreq(box, 1 / box)
    radius = (k[:, None, None] ** 2 + k[None, :, None] ** 2 + kx**2).sqrt()
    cosine = k[:, None, None] / radius.clamp(min=1)  # along z
    signal_power = torch.exp(-radius / 12 + anisotropy * (3 * cosine**2 - 1))
    noise_power = torch.exp(-anisotropy * (3 * cosine**2 - 1)) * 0.3

    def shaped(seed: int, power: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfftn(torch.fft.rfftn(noise(box, seed, 1)[0]) * power.sqrt())

    signal = shaped(0, signal_power)
    found = shell_correlation(*(signal + shaped(seed, noise_power) for seed in (1, 2)))
    shell = (radius + 0.5).floor().long()
    twice = torch.full((box // 2 + 1,), 2.0)
    twice[[0, -1]] = 1
    for s in range(8, 32):
        here = shell == s
        count = twice.expand_as(radius)[here]
        r = (count * signal_power[here]).sum() / (count * noise_power[here]).sum()
        # effective number of independent coefficients: anisotropic power lives in few of them
        power = (signal_power + noise_power)[here]
        effective = (count * power).sum() ** 2 / (count * power**2).sum() / 2
        assert abs(found[s] - r / (1 + r)) < 5 / effective.sqrt(), s
    if anisotropy:
        ratios = (signal_power / (signal_power + noise_power))[shell == 20].mean()
        assert abs(found[20] - ratios) > 0.2


def test_resolution_is_the_last_shell_before_the_first_crossing():
    curve = torch.tensor([1.0, 0.9, 0.5, 0.2, 0.1, 0.5, 0.0])
    assert crossing_shell(curve) == 3
    assert crossing_shell(curve, 0.5) == 2
    assert crossing_shell(curve, interpolate=True) == pytest.approx(3 + 0.057 / 0.1, abs=1e-6)
    assert resolution(curve, 12, 2.0) == pytest.approx(8.0)
    assert resolution(curve, 12, 2.0, threshold=0.5) == pytest.approx(12.0)
    assert resolution(torch.ones(7), 12, 2.0) == pytest.approx(4.0)
    assert resolution(torch.ones(7), 12, 2.0, interpolate=True) == pytest.approx(4.0)
    for interpolate in (False, True):
        nothing = torch.tensor([1.0, 0.1, 0.9, 0.9])
        assert resolution(nothing, 12, 2.0, interpolate=interpolate) == pytest.approx(24.0)
        broken = torch.tensor([1.0, 0.9, float("nan"), 0.9])
        assert crossing_shell(broken, interpolate=interpolate) == 1


def test_phases_are_randomised_from_the_first_fall_after_the_first_rise():
    curve = torch.tensor([1, 0.5, 0.75, 0.5, 0.9, 0.75, 0.1], dtype=torch.float64)
    assert first_randomised_shell(curve, 0.75) == 3
    assert first_randomised_shell(curve, 0.8) == first_randomised_shell(curve) == 5
    assert first_randomised_shell(curve, 0.05) == 7 and first_randomised_shell(curve, 0.95) == 1


def test_phases_of_shared_shells_are_not_randomised():
    curve = torch.tensor([1, 0.5, 0.75, 0.5, 0.9, 0.75, 0.1], dtype=torch.float64)
    assert [first_randomised_shell(curve, shared=s) for s in (4.9, 5.0, 5.3, 9.0)] == [5, 6, 6, 7]


@pytest.mark.data
def test_resolution_of_the_80s_ribosome():
    path = DATA / "real" / "rib80s_run003_model_trunc.star"
    if not path.exists():
        pytest.skip("needs rib80s_run003_model_trunc.star of the shared test data")
    table = path.read_text().split("data_model_class_1")[1].split("data_")[0]
    rows = [line.split() for line in table.splitlines() if line.strip()[:1].isdigit()]
    curve = torch.tensor([float(row[4]) for row in rows], dtype=torch.float64)
    assert len(curve) == 181
    assert resolution(curve, 360, 1.34) == pytest.approx(3.8592, abs=1e-4)
    assert resolution(curve, 360, 1.34, interpolate=True) == pytest.approx(3.852, abs=1e-3)


@pytest.mark.parametrize("box", [12, 15])
def test_large_maps_in_slabs_are_as_whole_ones(box, monkeypatch):
    """Slabs of two rows, the last one shorter for the odd box."""
    halves = noise(box, 1) + 0.5 * noise(box, 2, 1)
    whole = shell_correlation(*halves), phase_randomise(halves, 3, seeded(0))
    monkeypatch.setattr(transforms, "SLAB", 2 * box * (box // 2 + 1))
    parts = shell_correlation(*halves), phase_randomise(halves, 3, seeded(0))
    for a, b in zip(whole, parts):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)
    assert parts[0][1:].numpy() == pytest.approx(dense_fsc(*halves)[1:], abs=1e-6)


@pytest.mark.parametrize("box", [16, 17])
def test_phase_randomisation_keeps_amplitudes_and_the_low_shells(box):
    volume = noise(box, 3).double() + 1
    changed = phase_randomise(volume, 4, seeded(0))
    before, after = (torch.fft.fftn(v, dim=(1, 2, 3)) for v in (volume, changed))
    assert torch.allclose(before.abs(), after.abs(), rtol=1e-9, atol=1e-9)
    low = torch.from_numpy(full_shells(box) < 4)
    assert torch.allclose(before[:, low], after[:, low], rtol=1e-9, atol=1e-9)
    turn = (after / before)[:, ~low]
    assert turn.mean().abs() < 0.06  # phases spread evenly, differently in each volume
    assert (turn[0] * turn[1].conj()).mean().abs() < 0.06
    assert torch.equal(changed, phase_randomise(volume, 4, seeded(0)))
    assert not torch.equal(changed, phase_randomise(volume, 4, seeded(1)))


def test_correction_follows_the_formula_and_never_falls_below_the_unmasked_curve_at_the_onset():
    halves = smooth_object(32, 0, 20) + 0.5 * noise(32, 5)
    mask = soft_sphere(32, 7, 3)
    corrected, masked, randomised = corrected_fsc(halves, mask, 6, seeded(0))
    assert torch.equal(masked, shell_correlation(*(halves * mask)))
    assert torch.equal(corrected[:6], masked[:6])
    expected = (masked - randomised) / (1 - randomised)
    unmasked = shell_correlation(*halves)
    assert torch.allclose(
        corrected[6:8], torch.maximum(expected, torch.minimum(unmasked, masked))[6:8]
    )
    assert torch.allclose(corrected[8:], expected[8:].clamp(-1, 1))
    assert torch.allclose(randomised[:4], masked[:4], atol=0.05)


def test_correction_of_single_values():
    """From shell 2 on; 2 and 3 are not below the smaller of unmasked and masked, where 4 is; 6 has nothing left."""
    masked = torch.tensor([1, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, -0.5], dtype=torch.float64)
    randomised = torch.tensor([1, 0.9, 0.85, 0.6, 0.5, 0.2, 0.9995, 0.6], dtype=torch.float64)
    unmasked = torch.tensor([1, 0.9, 0.7, 0.9, 0.65, 0.6, 0.5, 0.5], dtype=torch.float64)
    found = correct_for_mask(masked, randomised, 2, unmasked)
    assert found.tolist() == pytest.approx([1, 0.95, 0.7, 0.8, 0.4, 0.5, 0, -1])


@pytest.mark.parametrize("seed", range(4))
def test_a_shared_mask_earns_no_resolution(seed):
    """Independent noise on a common background: a sharp mask correlates the halves, phases do not."""
    box, px = 48, 2.0
    halves = noise(box, seed) + 3
    mask = soft_sphere(box, 9, 1)
    curves = fsc_curves(halves, px, mask)
    assert resolution(curves["no_mask"], box, px) >= box * px / 2
    assert curves["tight"][3:8].mean() > 0.5  # the mask alone seems to be signal
    assert curves["corrected"][3:].mean() < 0.1
    assert resolution(curves["corrected"], box, px) >= box * px / 8


def test_correction_leaves_a_true_signal_alone():
    box, px = 48, 2.0
    signal = smooth_object(box, 7, 30)
    halves = signal + 0.7 * noise(box, 8)
    mask = density_mask(halves.mean(0), px, 0.4, 6, 14, 12)
    curves = fsc_curves(halves, px, mask)
    claim = resolution(curves["corrected"], box, px)
    true = resolution(shell_correlation(halves.mean(0) * mask, signal * mask), box, px, 0.5)
    assert claim >= true * 0.93  # never better than the truth by more than a shell or so
    assert claim < resolution(curves["no_mask"], box, px)


def test_curves_have_the_names_of_the_results_and_repeat():
    halves = smooth_object(32, 1, 20) + 0.3 * noise(32, 9)
    mask = soft_sphere(32, 8, 3)
    curves = fsc_curves(halves, 3.0, mask)
    assert tuple(curves) == CURVES
    assert all(curve.shape == (17,) and curve[0] == 1 for curve in curves.values())
    again = fsc_curves(halves, 3.0, mask)
    assert all(torch.equal(curves[name], again[name]) for name in CURVES)
    sphere = shell_correlation(*(halves * soft_sphere(32, 13.6, 2.4)))
    assert torch.allclose(curves["spherical"], sphere)
    given = fsc_curves(halves, 3.0, mask, loose=mask)
    assert torch.equal(given["loose"], given["tight"])
    assert not torch.equal(curves["loose"], given["loose"])


def test_signal_in_every_shell_needs_no_correction():
    halves = noise(24, 0, 1).expand(2, -1, -1, -1) + 0.01 * noise(24, 1)
    curves = fsc_curves(halves, 2.0, soft_sphere(24, 7, 3))
    assert torch.equal(curves["corrected"], curves["tight"])
    assert resolution(curves["corrected"], 24, 2.0) == pytest.approx(4.0)


@pytest.mark.slow
def test_curves_are_quick():
    halves = smooth_object(128, 1, 100) + 0.3 * noise(128, 9)
    mask = soft_sphere(128, 30, 6)
    fsc_curves(halves, 1.5, mask)
    start = time.process_time()
    fsc_curves(halves, 1.5, mask)
    assert time.process_time() - start < 5  # 0.3 s on an idle machine


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_curves_agree_on_cuda():
    halves = smooth_object(48, 1, 30) + 0.3 * noise(48, 9)
    mask = soft_sphere(48, 12, 4)
    host = fsc_curves(halves, 2.0, mask)
    device = fsc_curves(halves.cuda(), 2.0, mask.cuda())
    for name in CURVES:
        assert torch.allclose(device[name].cpu(), host[name], atol=1e-4), name


def test_a_dip_at_shell_one_does_not_hide_the_leak_of_a_small_mask():
    """Halves that agree in shells 2 to 5 and are noise beyond; shell 1 is spoilt, as by the images' window."""
    box = 24
    shells, spectra = volume_shells(box), fft_volume(noise(box, 3, n=3))
    shared, own = spectra[0], spectra[1:]
    agree = (shells >= 2) & (shells <= 5)
    halves = ifft_volume(torch.where(agree, 30 * shared + own, own), box)
    mask = soft_sphere(box, 4.0, 3.0)
    curves = fsc_curves(halves, 7.0, mask, loose=mask)
    assert curves["no_mask"][1] < 0.8 < curves["no_mask"][2:6].min()
    assert curves["tight"][8] > 0.5  # the leak
    # two shells behind the last that agrees are not corrected; with all phases randomised it was 12
    assert crossing_shell(curves["corrected"]) <= 8
