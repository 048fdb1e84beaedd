"""Which B-factor is applied, how far the filter reaches, and what is doubtful about either."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

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
