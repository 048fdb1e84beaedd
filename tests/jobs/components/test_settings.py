"""What is wrong whatever the data are."""

from __future__ import annotations

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings


def test_values_that_cannot_be_meant() -> None:
    assert make_settings("variability").n_components == 3
    with pytest.raises(InputError, match="name a format"):
        make_settings("variability", write=[])
    with pytest.raises(InputError, match="n_components=11 cannot be used"):
        make_settings("variability", n_components=11)
    with pytest.raises(InputError, match="n_frames=1 cannot be used"):
        make_settings("variability", n_frames=1)
