"""What can be judged of the values of a job before anything is read: what is wrong with them is said before what is wrong with ``out``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryotorch.errors import InputError

WORDS = ("phantom", "demo")  # that stand where files may


def refuse_values(settings: Any, inputs: Iterable[str | Path | None]) -> None:
    """Refuses what would be refused later too, by the same sentences.

    Args:
        settings: of a job; inputs: files and folders of the user.

    Raises:
        InputError: a point group that there is not, half maps that are named wrongly, a device or a file that is not there.
    """
    # with torch
    from cryotorch.jobs.inputs.device import require_cuda
    from cryotorch.jobs.inputs.half_maps import half_paths
    from cryotorch.jobs.inputs.symmetry import symmetry_group

    if getattr(settings, "symmetry", None) is not None:
        symmetry_group(settings.symmetry)
    if hasattr(settings, "device"):
        require_cuda("device", settings.device)
    if hasattr(settings, "trainer"):
        require_cuda("trainer.accelerator", settings.trainer.accelerator)
    if hasattr(settings, "half_map_a"):
        half_paths(settings.volume, settings.half_map_a, settings.half_map_b)
    for path in inputs:
        if path is not None and str(path) not in WORDS and not os.path.lexists(path):
            raise InputError(f"File {path} does not exist: check the name.")
