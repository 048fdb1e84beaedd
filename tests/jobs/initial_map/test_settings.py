"""What is refused whatever the data are."""

from __future__ import annotations

from typing import Any

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.ab_initio import AbInitio
from cryotorch.jobs.config.catalog import make_settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(box_size=33), "box_size=33 cannot be used: it must be even"),
        (dict(write=[]), "name a format"),
        (dict(final_resolution=35), "finer than initial_resolution=35"),
        (dict(n_classes=0), "n_classes=0"),
        (dict(n_starts=0), "n_starts=0"),
        (dict(max_particles=0), "max_particles=0"),
        (dict(max_particles=99), "max_particles=99 cannot be used: at least 100 are needed"),
        (dict(max_particles=199, n_classes=2), "at least 200 are needed, 100 for each map"),
        (dict(minibatch_size=2), "minibatch_size=2 cannot be used: at least 20"),
        (dict(nonnegative="maybe"), "nonnegative must be"),
        (dict(n_class=2), "n_classes"),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_settings("ab_initio", **changes)


def test_lengths_take_units_and_the_defaults_build() -> None:
    given = make_settings("ab_initio")
    assert isinstance(given, AbInitio) and given.n_classes == 1 and given.n_starts == "auto"
    nanometres = make_settings("ab_initio", final_resolution="1.5 nm", shift_extent="4px")
    assert nanometres.final_resolution == pytest.approx(15)
