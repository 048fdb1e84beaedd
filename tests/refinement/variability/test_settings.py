"""Settings of the search for components."""

from __future__ import annotations

import dataclasses

import pytest

from cryotorch.refinement.variability.em import passes


def test_settings_do_not_change_and_tell_the_passes(one_state) -> None:
    how = one_state.how
    with pytest.raises(dataclasses.FrozenInstanceError):
        how.limit = 3.0
    # mean, noise, the iterations, and the merged maps
    assert passes(dataclasses.replace(how, iterations=7)) == 10
