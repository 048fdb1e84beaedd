"""Jobs and parameters as ``configs/`` tells them; ``tests/test_configs.py`` looks at every file there."""

from __future__ import annotations

import pytest

from cryotorch.jobs.config import catalog


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("erase", True),
        ("segment.labels", True),
        ("unite", True),
        ("threshold", False),
        ("no", False),
    ],
)
def test_which_parameters_take_a_list(name: str, takes: bool) -> None:
    assert catalog.takes_list(name, "volume_tools") == takes
