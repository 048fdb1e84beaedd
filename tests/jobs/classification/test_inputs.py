"""What a classification starts from, in pixels, and what it refuses."""

from __future__ import annotations

import math

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.classification.inputs import load


def test_lengths_become_pixels(settings) -> None:
    read = load(settings(max_resolution=16.0, in_plane_step=10.0))
    # 128 Å in pixels of 16 * 0.75 / 2 = 6 Å, as a whole even number
    assert (read.how.grid.box, round(read.how.grid.pixel_size, 3)) == (22, 5.818)
    assert read.how.last_limit == pytest.approx(8.0)
    assert read.how.radius * read.how.grid.pixel_size == pytest.approx(48.0)
    assert read.how.extent * read.how.grid.pixel_size == pytest.approx(8.0)
    assert read.how.angles(8.0) == 18
    assert (read.how.batch, read.how.first_limit, read.how.shared_limit) == (240, 4.0, 5.0)
    assert sorted(read.particles.half.bincount().tolist()) == [120, 120]


def test_values_given_win(settings) -> None:
    read = load(settings(box_size=24, batch=50, mask_diameter=None, minibatch_size=7))
    assert (read.how.grid.box, read.how.batch, read.how.at_once) == (24, 50, 7)
    assert read.how.radius == pytest.approx(0.4 * 24)
    assert read.how.last_limit == pytest.approx(128 / 12)
    assert math.isclose(load(settings(max_resolution=8.0)).how.last_limit, 15.0)  # d/2 - 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(n_classes=60), "n_classes=60 cannot be used: 240 particles make 48 classes at most"),
        (dict(mask_diameter=200.0), "the box is only 128 Å wide"),
        (dict(mask_diameter=10.0), "nothing is left in it"),
        (dict(max_resolution=30.0), "it must be at most 21 Å"),
        (dict(shift_extent=40.0), "at most a quarter of the box, 32 Å"),
        (dict(box_size=64), "box_size must be even and at most 32"),
    ],
)
def test_what_does_not_fit_is_refused(settings, given, said) -> None:
    with pytest.raises(InputError, match=said):
        load(settings(**given))


def test_images_must_fit_into_memory(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryotorch.jobs.classification.inputs.host_memory", lambda: 10**5)
    with pytest.raises(InputError, match=r"max_resolution=12 cannot be used: .* GB of memory"):
        load(settings())
