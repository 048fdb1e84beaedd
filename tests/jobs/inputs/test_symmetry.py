"""Point groups by their names."""

from __future__ import annotations

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.inputs.symmetry import symmetry_group


def test_a_group_by_its_name() -> None:
    assert symmetry_group("d2").shape == (4, 3, 3)
    with pytest.raises(InputError, match="symmetry=Q3 cannot be used"):
        symmetry_group("Q3")
