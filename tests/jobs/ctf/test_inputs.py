"""From which resolution to which a fit goes, and what was known of the defocus."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.ctf.inputs import _require_band


@pytest.mark.parametrize("coarse", [9.7, 10.0, 10.07, 12.34])
@pytest.mark.parametrize("limit", [8.47, 9.0, 11.4])
def test_the_value_that_a_refusal_names_is_accepted(coarse: float, limit: float) -> None:
    """Rounded to the side that fits; and only switches that are on are to be switched off."""
    base = make_settings("ctf_refine", optics_min_resolution=coarse, spherical=True, tilt=False)

    def refusal(settings, limit: float) -> str:
        try:
            _require_band(settings, "optics_min_resolution", limit, finest=4.0)
        except InputError as said:
            return str(said)
        return ""

    said = refusal(base, limit)
    assert bool(said) == (coarse < 1.25 * limit)
    if said:
        assert said.endswith("with trefoil=false spherical=false")
        named = float(re.search(r"at least ([\d.]+),", said)[1])
        assert named == pytest.approx(1.25 * limit, abs=0.01)
        assert not refusal(replace(base, optics_min_resolution=named), limit)
    said = refusal(replace(base, max_resolution=limit), limit)
    if said:
        named = float(re.search(r"at most ([\d.]+)$", said)[1])
        assert named == pytest.approx(coarse / 1.25, abs=0.01)
        assert not refusal(replace(base, max_resolution=named), named)
