"""What a run leaves behind of being watched."""

from __future__ import annotations

import os

import pytest

from cryotorch.errors import TOLD, Stopped, first_to_tell
from cryotorch.refinement.runtime.watch import PARENT, Watch


def test_a_run_that_fails_alone_silences_no_later_one() -> None:
    """In one process, as in a sweep: the sentence of the next failure is told too."""
    for _ in range(2):
        with pytest.raises(ValueError), Watch(0, "go on"):
            assert first_to_tell()
            raise ValueError
        assert TOLD not in os.environ and PARENT not in os.environ
        assert first_to_tell()


def test_a_signal_that_a_finaliser_swallows_is_remembered(capsys) -> None:
    class Gone:
        def __del__(self) -> None:
            raise Stopped(code=143)

    with Watch(0, "go on") as watch:
        Gone()
    assert watch.missed == 143 and capsys.readouterr().err == ""
