"""From Å and degrees to the algorithm's units."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.config.parse import in_angstrom
from cryotorch.jobs.refinement.settings import LONG_JOB, em_settings
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.refinement.settings import NonUniformSettings


class Images(SimpleNamespace):
    """64 pixels of 2.5 Å: 160 Å."""

    box, pixel_size, number = 64, 2.5, 1000

    def __len__(self) -> int:
        return self.number


def planned(images=None, **changes):
    settings = in_angstrom(
        make_settings("homo_refine", **dict(initial_resolution=30) | changes), 2.5
    )
    return em_settings(settings, images or Images(), point_group("C1"))


def test_lengths_become_pixels_and_shells() -> None:
    found = planned(
        initial_resolution=32, max_align_resolution=8, split_resolution=20, particle_diameter=100,
        window_inner=0.5, window_outer=0.75, search__grid_step=9,
    )  # fmt: skip
    assert (found.box, found.pixel_size, found.split) == (64, 2.5, 8.0)
    assert (found.schedule.first_limit, found.schedule.highest_limit) == (5.0, 20.0)
    assert found.particle_radius == 20.0 and found.window == (16.0, 24.0)
    assert found.search.grid_step == pytest.approx(math.radians(9))
    assert found.ctf.limit == 20.0


def test_limits_end_a_shell_before_nyquist() -> None:
    found = planned(initial_resolution="1px", max_align_resolution=None)
    assert found.schedule.first_limit == found.schedule.highest_limit == 31.0
    assert planned(max_align_resolution=1.0).schedule.highest_limit == 31.0


@pytest.mark.parametrize(
    ("defocus", "optics", "rounds"), [(False, False, 0), (True, False, 2), (False, True, 2)]
)
def test_ctf_rounds_where_something_of_it_is_refined(defocus, optics, rounds) -> None:
    found = planned(refine_defocus=defocus, refine_optics=optics)
    assert found.schedule.ctf_rounds == rounds
    assert (found.ctf.defocus, found.ctf.optics) == (defocus, optics)


def test_regularizers() -> None:
    assert planned(regularizer="local_wiener").local_wiener
    assert not planned(regularizer="wiener").local_wiener
    smooth = planned(regularizer="nonuniform", nonuniform__window=2.5)
    assert isinstance(smooth.nonuniform, NonUniformSettings) and smooth.nonuniform.window == 2.5
    assert planned().nonuniform is None


def test_long_jobs_are_compiled() -> None:
    for number, compiled in ((LONG_JOB - 1, False), (LONG_JOB, True)):
        images = Images(number=number)
        assert planned(images, compile="auto").search.compile == compiled
        assert planned(images, compile=True).search.compile


def test_scales_begin_after_an_iteration_that_is_counted_from_one() -> None:
    found = [planned(scale_start_iteration=n).scale_start_iteration for n in (0, 1, 3)]
    assert found == [0, 0, 2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(initial_resolution=81), "in a box of 160 Å it must be at most 80 Å"),
        (dict(max_align_resolution=81), "at most 80 Å"),
        (dict(split_resolution=5), "must be above 5 Å"),
        (dict(box_size=63), "it must be even"),
        (dict(window_inner=0.9, window_outer=0.8), "window_outer=0.8"),
        (dict(mask_threshold=1.0), "must lie between 0 and 1"),
        (dict(write=[]), "name a format"),
    ],
)
def test_lengths_that_make_no_sense_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        planned(**changes)
