"""Loops are compiled with or without a place to keep them, and the silence is explained once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cryotorch.ops import compiled

LOOP = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
import numba
import numpy as np
from cryotorch.ops.compiled import LISTENER, compiled

numba.njit(lambda x: x + 1)(1)  # another's

def loop(a):
    for i in range(len(a)):
        a[i] += 1

def twice(a):
    return 2 * a[0]

for module in (loop, twice):
    module.__module__ = "cryotorch.ops.fourier.slices_cpu"
loop, twice = compiled(loop, nogil=False), compiled(twice)
print("before")
since = LISTENER.seconds
a = np.zeros(2)
loop(a), twice(a), loop(np.zeros(2, np.float32))
print("after", LISTENER.seconds > since)
"""


def test_compiles_without_a_place_for_the_result(monkeypatch: pytest.MonkeyPatch):
    """As in a container whose folders are all read-only."""
    calls = []

    def njit(**how):
        calls.append(how)
        if "cache" in how:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiled, "njit", njit)
    monkeypatch.setattr(compiled, "LISTENER", compiled.Told())
    assert compiled.compiled(len)([1, 2]) == 2
    assert [call.get("cache") for call in calls] == [True, None]
    assert not compiled.LISTENER.kept


def test_the_process_that_compiles_says_so_once_and_later_ones_are_silent(tmp_path):
    """A file, as numba keeps code by the file that it is in; of another package's loops nothing is said."""
    script = tmp_path / "loop.py"
    script.write_text(LOOP, encoding="utf-8")
    place = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    said = [
        subprocess.run(
            [sys.executable, str(script)], env=place, capture_output=True, check=True, text=True
        ).stdout.split("\n")
        for _ in range(2)
    ]
    assert said[0] == ["before", compiled.ONCE, "after True", ""]
    assert said[1] == ["before", "after False", ""]
