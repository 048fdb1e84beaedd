"""Boxes and pixel sizes of optics groups, held against the headers of their stacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryotorch.data.optics import BOX, OpticsOfFile
from cryotorch.data.stacks import Stacks
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark

# A pixel size in the STAR file that differs less from the stack's is a later calibration, not a mistake.
MAX_CALIBRATION = 0.05


def boxes_of_groups(
    stacks: Stacks, address: np.ndarray, optics: OpticsOfFile, path: Path
) -> tuple[np.ndarray, list[Finding]]:
    """The box of each optics group (g,), after comparing what file and headers say; unused groups keep theirs.

    ``address`` (n, 2) as in ``Particles``. Of pixel sizes that differ a little the file's wins, which is told.

    Raises:
        InputError: file and header contradict each other, or the images of a group have several boxes.
    """
    box = optics.box.copy()
    first: dict[int, Path] = {}
    calibrated = []
    pairs = np.unique(optics.row * len(stacks.paths) + address[:, 0])
    for group, stack in zip(*np.divmod(pairs, len(stacks.paths)), strict=True):
        name, found = stacks.paths[stack], stacks.boxes[stack]
        if group in first and found != box[group]:
            raise InputError(
                f"{first[group]} holds images of {box[group]} pixels, {name} of {found}: give each box an optics group "
                "of its own, or extract all particles with one."
            )
        if box[group] not in (0, found):
            raise InputError(
                f"_{BOX} is {box[group]} in {path}, but the images of {name} have {found} pixels: "
                "correct the STAR file or name the right stack."
            )
        box[group] = found
        first.setdefault(group, name)
        size, stated = stacks.pixel_sizes[stack], optics.pixel_size[group]
        if size is None or abs(size - stated) <= 1e-3 * stated:
            continue
        if abs(size / stated - 1) > MAX_CALIBRATION:
            raise InputError(
                f"The pixel size is {stated:g} Å in {path} but {size:g} Å in the header of {name}: correct the one "
                "that is wrong."
            )
        calibrated.append((stated, size, name))
    if not calibrated:
        return box, []
    stated, size, name = calibrated[0]
    count = dict(differing=len({name for *_, name in calibrated}), stacks=len(stacks.paths))
    sizes = dict(stated=float(stated), header=float(size))
    where = dict(file=str(path), stack=str(name))
    return box, [remark("pixel_sizes_differ", **sizes, **where, **count)]


def several_grids(optics: OpticsOfFile, path: Path) -> list[Finding]:
    """Whether the groups in use differ in box or pixel size."""
    used = np.unique(optics.row)
    box, size = optics.box[used], optics.pixel_size[used]
    if np.ptp(box) == 0 and np.ptp(size) <= 1e-4 * size.max():
        return []
    sizes = dict(least_size=float(size.min()), most_size=float(size.max()))
    boxes = dict(least_box=int(box.min()), most_box=int(box.max()))
    onto = dict(size=float(optics.pixel_size[optics.main]), box=int(optics.box[optics.main]))
    return [remark("several_grids", file=str(path), **sizes, **boxes, **onto)]
