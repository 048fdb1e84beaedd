"""What to do about a mask depends on who made it, and what to do about a B-factor on its fit."""

from __future__ import annotations

import pytest

from cryotorch.findings import Finding
from cryotorch.report.sentences import say
from cryotorch.report.words.half_maps import REMEDIES, remedy


@pytest.mark.parametrize(
    ("kind", "words"),
    [("generated", "lower threshold"), ("given", "job=volume_tools"), ("fixed", "validation_fsc")],
)
def test_the_cure_is_one_that_works_on_this_kind_of_mask(kind: str, words: str) -> None:
    assert words in say(Finding("mask_cuts", resolution=4.0, kind=kind))
    assert words in say(
        Finding("curve_dips", curve="tight", level=0.14, fall=5.0, rise=4.5, kind=kind)
    )
    assert words in say(Finding("random_phases_agree", fsc=0.3, level=0.1, kind=kind))


def test_a_sphere_is_a_mask_that_was_not_made_yet() -> None:
    assert remedy("sphere") == REMEDIES["generated"] != remedy("given")


def test_a_dip_without_a_mask_is_not_the_masks() -> None:
    said = say(
        Finding("curve_dips", curve="no_mask", level=0.143, fall=5.0, rise=4.5, kind="given")
    )
    assert "without a mask falls below 0.143 at 5.00 Å and is above it again at 4.50 Å" in said
    assert "the mask is not the reason" in said and "volume_tools" not in said


def test_how_a_b_factor_may_be_chosen() -> None:
    doubts = (Finding("steep", limit=-1000.0),)
    uncertain = Finding("bfactor_uncertain", bfactor=-1200.0, error=90.4, doubts=doubts, wider=None)
    assert say(uncertain).endswith("give bfactor=<Å²>")
    assert say(uncertain).startswith("The fitted B-factor of -1200 ± 90 Å² is uncertain")
    assert say(uncertain.plus(wider=15.0)).endswith("give bfactor=<Å²>, or fit_from=15")


def test_few_data_are_so_good() -> None:
    found = Finding("never_falls", threshold=0.143, nyquist=0.5, resolution=3.0, doubtful=False)
    assert "limits the resolution to 3.00 Å" in say(found)
    assert say(found.plus(doubtful=True)).endswith("no particle is in both half sets")
    assert not say(found).endswith("no particle is in both half sets")
