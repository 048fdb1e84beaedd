"""Factors of images in closed form; noise estimates and maps that a few damaged images do not change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement import image_weight as w

BOX = 48
SHELLS = BOX // 2 + 1


def power(n: int, seed: int = 0) -> Tensor:
    """|y|^2 (n, m) of white noise with sigma2 = 1."""
    noise = torch.randn(
        n, len(half_plane(BOX).shell), 2, generator=torch.Generator().manual_seed(seed)
    )
    return noise.square().sum(-1) / 2


def per_shell(p: Tensor) -> Tensor:
    shell = half_plane(BOX).shell
    count = torch.bincount(shell, minlength=SHELLS).clamp_min(1)
    return p.new_zeros(len(p), SHELLS).index_add_(1, shell, p).double() / count


def test_bands_double_and_hold_every_coefficient_once() -> None:
    assert w.band_edges(48) == (1, 3, 5, 9, 17, 25)
    shell = half_plane(BOX).shell
    band = w.bands_of_shells(BOX)[shell]
    p = power(3)
    by_hand = torch.stack([p[:, band == b].mean(1) for b in range(5)], 1)
    assert torch.allclose(w.band_power(p, BOX), by_hand)
    assert torch.equal(w.of_coefficients(by_hand, BOX, 100), by_hand[:, band[:100]])
    assert torch.allclose(w.over_all(by_hand, BOX), p.mean(1))
    for box in (8, 10, 64, 250):
        edges = w.band_edges(box)
        assert edges[-1] == int(half_plane(box).shell[-1]) + 1 and list(edges) == sorted(set(edges))


def test_noise_alone_makes_no_image_count_less() -> None:
    """Two thousand images: all factors are one, exactly."""
    ratio = w.band_power(power(2000), BOX)
    max_ratio = w.max_ratio_of(ratio)
    assert (max_ratio >= w.MIN_TIMES_MEDIAN * ratio.median(0).values).all() and (
        max_ratio < 4
    ).all()
    factor = w.factors(ratio, max_ratio, torch.zeros(2000, dtype=torch.bool))
    assert (factor == 1).all()
    assert not w.faults(ratio, max_ratio, torch.zeros(2000, dtype=torch.bool), BOX, 2.0)


def test_loud_images_count_by_their_share() -> None:
    p = power(400)
    p[:20, :34] *= 1000  # one in twenty, in shells 1-4
    p[30] *= 1e6
    p[31] = 0
    ratio, blank = w.band_power(p, BOX), torch.arange(400) == 31
    max_ratio = w.max_ratio_of(ratio[~blank])
    factor = w.factors(ratio, max_ratio, blank)
    assert (factor * ratio <= max_ratio * 1.001).all()
    assert (factor[:20, 0] < 0.02).all() and (factor[:20, 2:] == 1).all()
    assert (factor[30] < 1e-5).all() and (factor[31] == 0).all()
    sound = torch.ones(400, dtype=torch.bool)
    sound[:20] = sound[30] = sound[31] = False
    assert (factor[sound] == 1).all()
    told = w.faults(ratio, max_ratio, blank, BOX, 2.0)
    assert list(told) == [*range(20), 30, 31] and told[31] == "blank"
    assert told[3].startswith("residual of ") and told[3].endswith((" at 96-48 Å", " at 32-24 Å"))


@pytest.mark.parametrize("groups", [1, 2])
def test_the_mean_of_clean_spectra_is_the_plain_one_and_damage_does_not_show(groups: int) -> None:
    p = per_shell(power(300))
    group = torch.arange(300) % groups
    p[group == 1] *= 4
    mean, max_ratio, factor = w.robust_mean(p, group, groups, BOX)
    for g in range(groups):
        assert torch.allclose(mean[g], p[group == g].mean(0), rtol=1e-12)
    assert (factor == 1).all()
    bad = p.clone()
    bad[:15, :6] *= 500
    bad[20], bad[21] = bad[20] * 1e6, 0
    robust, again, factor = w.robust_mean(bad, group, groups, BOX)
    assert (robust / mean)[:, 1:] == pytest.approx(torch.ones(groups, 24), rel=0.12)
    assert (factor[:15] < w.DAMAGED_FACTOR).all() and factor[20] < 1e-4 and factor[21] == 0
    assert again == pytest.approx(max_ratio, rel=0.2)


def test_the_misfit_is_what_is_left_where_the_signal_is() -> None:
    """Of an image with noise of power 2 where three quarters of its signal is, 1 elsewhere; whatever the scale of signal and noise."""
    plane = half_plane(BOX)
    residual = torch.where(plane.shell < 9, 2.0, 1.0).repeat(2, 1)
    size = (plane.shell < 9).sum() / (plane.shell >= 9).sum()
    signal = torch.where(plane.shell < 9, 3.0, 1.0 * size).repeat(2, 1).sqrt() * torch.tensor(
        [[1.0], [7.0]]
    )
    noise = torch.tensor([[1.0], [5.0]]).expand_as(signal)
    images = Observation(torch.zeros_like(signal).cfloat(), torch.ones_like(signal), 1 / noise, BOX)
    ratio, _ = w.loudness(residual * noise, images)
    found = w.misfit(ratio, signal.cfloat() * noise.sqrt(), images)
    assert found.tolist() == pytest.approx([1.75, 1.75], rel=1e-5)
    assert w.misfit(ratio, torch.zeros_like(signal).cfloat(), images).tolist() == [0, 0]


def test_noise_sums_leave_damaged_images_out() -> None:
    p, group = power(200), torch.arange(200) % 2
    p[3] *= 1e6
    ratio = w.band_power(p, BOX)
    factor = w.factors(ratio, w.max_ratio_of(ratio), torch.zeros(200, dtype=torch.bool))
    total, count = w.noise_sums(p, factor, group, 2, BOX)
    shell_size = torch.bincount(half_plane(BOX).shell, minlength=SHELLS).clamp_min(1)
    assert count[0] == pytest.approx(torch.full((SHELLS,), 100.0).double())
    assert count[1] == pytest.approx(torch.full((SHELLS,), 99.0).double(), abs=1e-3)
    noise = total / count / shell_size
    assert noise[:, 8:] == pytest.approx(torch.ones(2, SHELLS - 8).double(), rel=0.1)


def test_coming_limits_belong_to_the_coming_noise() -> None:
    """Where residuals were a third of what was expected, the next noise estimate is a third."""
    ratio = w.band_power(power(500), BOX)
    assert torch.allclose(w.coming_max_ratio(ratio / 3), w.coming_max_ratio(ratio), rtol=1e-4)
    assert torch.allclose(w.coming_max_ratio(ratio), w.max_ratio_of(ratio), rtol=0.05)


def test_images_of_known_poses_are_watched() -> None:
    p = power(40)
    p[5] *= 400
    p[6] = 0
    seen = Observation(
        torch.complex(p.sqrt(), torch.zeros_like(p)), torch.ones_like(p), torch.ones_like(p), BOX
    )
    watch = w.Watch(w.max_ratio_of(w.band_power(p, BOX)), 50)
    weighed = watch.weigh(seen, torch.arange(40))
    others = [i for i in range(40) if i not in (5, 6)]
    assert torch.equal(weighed.precision[others], seen.precision[others])
    assert weighed.precision[5].max() < 0.02 and weighed.precision[6].max() == 0
    assert list(watch.faults(BOX, 2.0)) == [5, 6]
    all_alike = w.Watch(w.unlimited(BOX), 50).weigh(seen.of(torch.tensor([5])), torch.tensor([5]))
    assert torch.equal(all_alike.precision, seen.precision[:1])
