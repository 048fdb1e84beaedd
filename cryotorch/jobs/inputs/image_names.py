"""Image names of a particle file that is written anew elsewhere: they lead to the same images from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cryotorch.data.half_sets import ORIGINAL_IMAGE
from cryotorch.data.image_names import find_stacks, format_names, parse_names
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.findings import Finding


class Named(NamedTuple):
    """A file whose names lead to its images from a folder.

    Attributes:
        file: with these names in its table; its ``stacks`` are named as before.
        told: names that have changed or lead nowhere.
        found: the file behind each of ``stacks``, None where there is none.
    """

    file: ParticleFile
    told: list[Finding]
    found: list[Path | None]


def lead_from(file: ParticleFile, project: str | None, out: Path) -> Named:
    """Image names that lead to the images from a new file in ``out``.

    With ``project``: relative to it where the images lie in it, absolute otherwise. Without: as they were where the new file
    leads to the same images, absolute where only the old one does.

    Raises:
        InputError: with ``project``, an image file that is not found.
    """
    names, address = [str(stack) for stack in file.stacks], file.particles.address.numpy()
    if project is not None:
        stacks = find_stacks(names, file.path, project)
        return Named(_renamed(file, format_names(address, stacks, Path(project))), [], [*stacks])
    lost, moved, told = [], [], []
    found = [_found(name, file) for name in names]
    home = out.absolute()
    for name, stack in zip(names, found, strict=True):
        there = next((x / name for x in (home, *home.parents) if (x / name).is_file()), None)
        if stack is None:
            lost += [] if there or Path(name).is_absolute() else [name]
        elif there is None or not there.samefile(stack):
            moved.append(name)
    if moved:
        stacks = [stack or Path(name) for name, stack in zip(names, found, strict=True)]
        rows = np.isin(address[:, 0], [names.index(name) for name in moved])
        full = format_names(address, stacks, out)
        file = _renamed(file, np.where(rows, full, file.tables["particles"]["rlnImageName"]))
        told.append(Finding("names_absolute", name=moved[0], folder=str(out)))
    if lost:
        told.append(Finding("names_lost", name=lost[0], folder=str(out)))
    return Named(file, told, found)


def moved_to(file: ParticleFile, old: str, new: str) -> tuple[ParticleFile, int]:
    """The file with ``new`` for the beginning ``old`` of the names of its image files, and how many rows that changes."""
    names = [str(stack) for stack in file.stacks]
    stacks = [new + name[len(old) :] if name.startswith(old) else name for name in names]
    changed = np.array([a != b for a, b in zip(names, stacks, strict=True)])
    address = file.particles.address.numpy()
    if not changed.any():
        return file, 0
    texts = [f"{image + 1:06d}@{stacks[stack]}" for stack, image in address.tolist()]
    moved = replace(_renamed(file, texts), stacks=[Path(stack) for stack in stacks])
    return moved, int(changed[address[:, 0]].sum())


def named_as_originals(file: ParticleFile) -> ParticleFile:
    """The file with the names of the images that its own were made of, as by signal subtraction.

    Raises:
        InputError: it does not name them.
    """
    table, label = file.tables["particles"], ORIGINAL_IMAGE[0]
    if label not in table or not all(b"@" in name for name in table.raw(label).tolist()):
        raise InputError(
            f"originals=true cannot be used: {file.path} does not name the images that its own were made of (_{label})"
        )
    names = table.raw(label)
    stacks, address = parse_names(names, file.path)
    table = table.copy()
    table["rlnImageName"] = names
    table.pop(label)
    particles = file.particles.replace(address=torch.from_numpy(address), origin=None)
    tables = {**file.tables, "particles": table}
    return replace(file, tables=tables, particles=particles, stacks=[Path(x) for x in stacks])


def _renamed(file: ParticleFile, names: list[str] | np.ndarray) -> ParticleFile:
    table = file.tables["particles"].copy()
    table["rlnImageName"] = names
    return replace(file, tables={**file.tables, "particles": table})


def _found(name: str, file: ParticleFile) -> Path | None:
    try:
        return find_stacks([name], file.path, None)[0].absolute()
    except InputError:
        return None
