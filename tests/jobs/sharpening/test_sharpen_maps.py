"""Which B-factor is applied, how far the filter reaches, and what is doubtful about either."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.sharpening import sharpen_maps
from cryotorch.results import Guinier

BOX, PX = 64, 2.0


def test_doubts_about_a_fit() -> None:
    shells = torch.arange(33)
    s2 = (shells / (BOX * PX)) ** 2

    def fit(bfactor: float, last: int = 27) -> Guinier:
        used = (shells >= 13) & (shells <= last)
        return Guinier(s2, 0.0 * s2, used, bfactor, 0.0)

    settings = make_settings("sharpen")
    assert sharpen_maps._doubts(settings, fit(-100), fit(-60)) == []
    assert sharpen_maps._doubts(settings, fit(-100), replace(fit(-60), bfactor=None)) == []
    few = dict(coarse=BOX * PX / 13, fine=BOX * PX / 19)
    for doubted, other, code, values in (
        (fit(-100, 19), fit(-60, 19), "few_shells", dict(shells=7, **few)),
        (fit(-1500), fit(-1000), "steep", dict(limit=-1000)),
        (fit(-100), fit(-40), "other_bfactor", dict(map="whole", bfactor=-40)),
        (fit(-100), fit(30), "other_bfactor", dict(map="whole", bfactor=30)),
    ):
        (found,) = sharpen_maps._doubts(settings, doubted, other)
        assert found.code == code and found.values == pytest.approx(values)


SHELLS = torch.arange(33)


def line(bfactor: float | None, last: int = 27) -> Guinier:
    """A fit over the shells 13 to ``last`` of 128 Å."""
    s2, used = (SHELLS / (BOX * PX)) ** 2, (SHELLS >= 13) & (SHELLS <= last)
    return Guinier(s2, torch.zeros(33), used, bfactor, 0.0)


@pytest.mark.parametrize(
    ("given", "fitted", "applied", "said"),
    [
        (-80.0, -100.0, [-80.0], []),
        ([-50.0, -80.0], None, [-50.0, -80.0], []),
        (None, -100.0, [-100.0], []),
        (None, None, [0.0], ["fit_refused"]),
        (None, 30.0, [30.0], ["bfactor_positive"]),
        (None, -1500.0, [-1500.0], ["bfactor_uncertain"]),
    ],
)
def test_the_b_factor_is_the_given_one_else_the_fitted_one(given, fitted, applied, said) -> None:
    settings = make_settings("sharpen", bfactor=given)
    found, warnings = sharpen_maps._bfactors(
        settings, line(fitted), line(-1400.0 if said == ["bfactor_uncertain"] else -90.0), BOX * PX
    )
    assert found == applied and codes(warnings) == said


def test_a_wider_fit_is_offered_where_it_has_shells_enough() -> None:
    settings = make_settings("sharpen")
    assert sharpen_maps._wider_fit(settings, line(-100.0), BOX * PX) is None  # 15 shells are enough
    assert sharpen_maps._wider_fit(settings, line(-100.0, 17), BOX * PX) == 15.0
    wide = make_settings("sharpen", fit_from=15)
    assert sharpen_maps._wider_fit(wide, line(-100.0, 17), BOX * PX) is None


@pytest.mark.parametrize(
    ("changes", "shell"),
    [
        ({}, 16),
        (dict(filter_offset=2), 18),
        (dict(filter_resolution=16.0), 8),
        (dict(filter_offset=-4), 12),
    ],
)
def test_the_filter_ends_where_half_maps_do_or_where_asked(changes: dict, shell: int) -> None:
    """In 128 Å half maps reach shell 16, 8 Å."""
    cut, said = sharpen_maps._filter_resolution(make_settings("sharpen", **changes), 16, BOX, PX)
    assert cut == pytest.approx(128 / shell) and said == []


def test_filters_that_pass_noise_or_nothing() -> None:
    fine = make_settings("sharpen", filter_resolution=5.0)
    cut, said = sharpen_maps._filter_resolution(fine, 16, BOX, PX)
    assert cut == pytest.approx(5.0) and said[0].values == dict(wanted=5.0, resolution=8.0)
    for offset, words in ((-16, "only 16 shells lie before"), (17, "only 16 shells lie between")):
        with pytest.raises(InputError, match=words):
            settings = make_settings("sharpen", filter_offset=offset)
            sharpen_maps._filter_resolution(settings, 16, BOX, PX)
