"""What a subtraction is not asked for."""

from __future__ import annotations

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(write=[]), "write=.* name a format"),
        (dict(box_size=33), "box_size=33 cannot be used: it must be even"),
        (dict(defocus_height="positive"), "add recenter_on_mask=true"),
        (dict(stack_type="int8"), "stack_type"),
    ],
)
def test_what_is_wrong_whatever_the_data_are(given: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_settings("subtract", **given)


def test_the_defaults_build() -> None:
    settings = make_settings("subtract")
    assert settings.stack_type == "float32" and not settings.recenter_on_mask
