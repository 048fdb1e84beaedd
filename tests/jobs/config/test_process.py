"""The memory of a command's process: cycles are looked for rarely, and what is freed is kept."""

from __future__ import annotations

import gc
import subprocess
import sys

from cryotorch.jobs.config.process import collect_rarely


def test_cycles_are_looked_for_rarely() -> None:
    before = gc.get_threshold()
    try:
        collect_rarely()
        assert gc.get_threshold()[0] >= 50_000
    finally:
        gc.set_threshold(*before)


def test_freed_memory_is_kept_for_the_next_array(repository) -> None:
    """A large array that takes the place of a freed one has no fresh pages to be cleared."""
    code = """
import numpy as np, resource
from cryotorch.jobs.config.process import keep_freed_memory
keep_freed_memory()
np.ones(2**23)  # 64 MiB, freed at once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 2000  # of 16,384 pages
