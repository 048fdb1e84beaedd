"""What can be judged of the values of a job before anything is read: what is wrong with them is said before what is wrong with ``out``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cryotorch.errors import InputError

WORDS = ("phantom", "demo")  # that stand where files may


def refuse_values(settings: Any, inputs: Iterable[str | Path | None]) -> list[str]:
    """Refuses what would be refused later too, by the same sentences; files that are not there are left to ``refuse_missing`` in a dry run.

    Args:
        settings: of a job; inputs: files and folders of the user.

    Returns:
        What is not there, of a dry run.

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
    named = [str(path) for path in inputs if path is not None and str(path) not in WORDS]
    missing = [path for path in dict.fromkeys(named) if not os.path.lexists(path)]
    if missing and settings.dry_run:
        return missing
    if hasattr(settings, "half_map_a"):
        half_paths(settings.volume, settings.half_map_a, settings.half_map_b)
    if missing:
        raise InputError(f"File {missing[0]} does not exist: check the name.")
    return []


def refuse_missing(settings: Any, missing: Sequence[str]) -> None:
    """The end of a dry run that lacks files, after all else that can be checked without them: they may be those of a command before it.

    Raises:
        InputError: there are some, or what is there cannot be used.
    """
    if not missing:
        return
    from cryotorch.data.particle_file import read_particles

    particles = getattr(settings, "particles", None)
    checked = "parameters and out are sound"
    if isinstance(particles, str) and particles not in missing:
        of_class = getattr(settings, "class_", None)
        read_particles(particles, need_half_sets=False, of_class=of_class)
        checked = f"parameters, out and particles={particles} are sound"
    names = {str(getattr(settings, x.name)): x.name for x in fields(settings)}
    told = [f"{names[path]}={path}" if path in names else path for path in missing]
    are, they = ("is", "it") if len(told) == 1 else ("are", "them")
    raise InputError(
        f"{' and '.join(told)} {are} not there, and nothing that needs {they} was checked; {checked}. If a command before this one makes "
        f"{they}, check this one again after that; else check the name"
    )
