"""Whether the particles belong to the map that their CTF is refined with."""

from __future__ import annotations

import logging

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.ctf.passes import _check_match
from cryotorch.refinement.em.initialise import MIN_POSE_MATCH


@pytest.mark.parametrize(
    ("match", "doubted"), [(MIN_POSE_MATCH + 0.1, False), (MIN_POSE_MATCH - 0.1, True), (0.0, True)]
)
def test_particles_that_hardly_match_are_told(match: float, doubted: bool, caplog) -> None:
    with caplog.at_level(logging.INFO, "cryotorch"):
        _check_match(match, "m.mrc")
    assert ("hardly match volume=m.mrc" in caplog.text) == doubted


def test_particles_of_the_opposite_contrast_are_refused() -> None:
    with pytest.raises(InputError, match=r"the inverse of volume=m\.mrc, .*change invert"):
        _check_match(-MIN_POSE_MATCH - 0.1, "m.mrc")
