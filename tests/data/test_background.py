"""Levels and outliers of planted backgrounds."""

from __future__ import annotations

import pytest
import torch

from cryotorch.data.background import (
    OUTLIER,
    corners_of,
    deviation_of,
    extremes,
    level_of,
    mended,
    outlier_limits,
    outliers,
    unit_of,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_bad_corner_does_not_set_the_level() -> None:
    images = 3 * noise(20, 64, 64) + 5
    images[1, :8, :8] += 500
    images[2, 32:] += 60
    images[3, 10, 2] = torch.nan
    images[4, 20:44, 20:44] += 1000  # the particle
    mean, sigma = corners_of(64)(images)
    assert sigma == pytest.approx(torch.full((20,), 3.0), rel=0.2)
    assert float(sigma.mean()) == pytest.approx(3, rel=0.03)
    usual = [i for i in range(20) if i != 2]
    assert mean[usual] == pytest.approx(torch.full((19,), 5.0), abs=0.8)


def test_limits_follow_most_of_the_images() -> None:
    corners, images = corners_of(32), noise(100, 32, 32)

    def limits(images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)
        return outlier_limits(extremes(flat.amin(1), flat.amax(1), *corners(images)))

    plain = limits(images)
    assert (plain >= OUTLIER).all() and (plain < 11).all()
    images[:8, 5, 5] = 1e4  # hot pixels in some
    assert (limits(images) - plain).abs().max() < 2.5
    images[:, 12:20, 12:20] += 25  # strong particles
    assert limits(images)[1] > 40 and limits(images)[0] < 11
    images[:, 2:] = 0
    assert (outlier_limits(torch.full((9, 2), torch.inf)) == torch.inf).all()
    assert (outlier_limits(torch.zeros(0, 2)) == torch.inf).all()


def test_what_replaces_a_bad_pixel_is_like_its_surroundings() -> None:
    image = 2 * noise(40, 40) + 7
    image[10:30, 10:30] += 9
    image[20, 20], image[3, 3], image[2, 30] = 200, -200, torch.inf
    one, limits = torch.tensor(1.0), torch.tensor([9.0, 14.0])
    bad = outliers(image, 7 * one, 2 * one, limits)
    assert int(bad.sum()) == 3 and bad[20, 20] and bad[3, 3] and bad[2, 30]
    draws = torch.stack([mended(image, bad, 7 * one, 2 * one, seed) for seed in range(400)])
    assert torch.equal(draws[5], mended(image, bad, 7 * one, 2 * one, 5))
    assert float(draws[:, 20, 20].mean()) == pytest.approx(16, abs=1.5)
    assert float(draws[:, 3, 3].mean()) == pytest.approx(7, abs=1.5)
    assert float(draws[:, 20, 20].std()) == pytest.approx(2, rel=0.15)
    changed = (draws[0] != image).sum()
    assert int(changed) == 27  # and their neighbours


def test_a_level_that_a_few_images_do_not_set() -> None:
    sigma = 2 + 0.1 * noise(200)
    sigma[:6] = 2000
    level = level_of(sigma)
    assert level.usual == pytest.approx(2, rel=0.02) and not level.differs
    assert level.scatter == pytest.approx(0.05, rel=0.3)
    assert level.is_far(torch.tensor([2.0, 2.6, 1.5, 4.0, 0.5, 0.0])).tolist() == [
        *(False, False, False, True, True),
        False,
    ]


@pytest.mark.parametrize("kind", ["scatter", "two"])
def test_levels_that_differ_in_general(kind: str) -> None:
    sigma = (
        (0.3 * noise(200)).exp() if kind == "scatter" else 1 + (torch.arange(200) % 7 == 0) * 2.0
    )
    assert level_of(sigma).differs


def test_no_level_without_noise() -> None:
    level = level_of(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert not level.differs and not level.is_far(torch.tensor([1.0, 5.0])).any()


def test_the_unit_of_grey_values_is_a_power_of_two() -> None:
    images = 2.0**40 * noise(10 * 64).reshape(10, 8, 8)
    images[0, 0, 0] = torch.nan
    deviation = deviation_of(images)
    assert torch.allclose(deviation[1:], images[1:].double().flatten(1).std(1, correction=0))
    assert torch.isfinite(deviation).all()
    assert unit_of(deviation) == 2.0**-40 and unit_of(deviation / 2.0**40) == 1.0
    assert unit_of(torch.zeros(3)) == 1.0
