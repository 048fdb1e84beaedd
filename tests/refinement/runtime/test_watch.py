"""What a run leaves behind of being watched."""

from __future__ import annotations

import os

import pytest

from cryotorch.errors import TOLD, first_to_tell
from cryotorch.refinement.runtime.watch import PARENT, Watch


def test_a_run_that_fails_alone_silences_no_later_one() -> None:
    """In one process, as in a sweep: the sentence of the next failure is told too."""
    for _ in range(2):
        with pytest.raises(ValueError), Watch(0, "go on"):
            assert first_to_tell()
            raise ValueError
        assert TOLD not in os.environ and PARENT not in os.environ
        assert first_to_tell()
