"""The optics of a particle STAR file: a table of groups since RELION 3.1, columns of the particles before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cryotorch.data.aberrations import (
    LENS,
    PIXEL,
    PREMULTIPLIED,
    TILT,
    optics_columns,
    read_aberrations,
)
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.particles import Optics

OLD_PIXEL = ("rlnDetectorPixelSize", "rlnMagnification")
BOX, DIMENSIONS = "rlnImageSize", "rlnImageDimensionality"
GROUP = "rlnOpticsGroup"
PIXEL_SIZES = (0.1, 100)  # Å that particle images have
# Columns of RELION 3.0's particles that belong to their optics.
OPTICS_OF_PARTICLES = (*LENS, PIXEL, *OLD_PIXEL, BOX, *TILT, PREMULTIPLIED)


@dataclass(frozen=True)
class OpticsOfFile:
    """What a file says of its optics.

    Attributes:
        groups: one row per optics group.
        row: (n,) int64, row of each particle's group.
        number: (n,) int64, the group's number as files write it.
        pixel_size: (g,) Å of the images as extracted.
        box: (g,) pixels of the images as extracted, 0 where the file does not say.
        read: the table that the groups were read from.
        written: whether the file has such a table; RELION 3.0 files have not.
        ignored: columns of the particles that are not applied.
    """

    groups: Optics
    row: np.ndarray
    number: np.ndarray
    pixel_size: np.ndarray
    box: np.ndarray
    read: Table
    written: bool
    ignored: list[Finding]

    @property
    def main(self) -> int:
        """The group with most particles; the first of equals."""
        return int(np.bincount(self.row).argmax())

    def table(self) -> Table:
        """The table of optics to write: as read, or made from the particles' columns."""
        return self.read if self.written else optics_table(self.groups, self.box)


def optics_table(groups: Optics, box: np.ndarray) -> Table:
    """Optics groups as RELION 3.1 writes them, numbered from 1; box (g,), 0 = unknown."""
    n = len(groups)
    columns = {
        GROUP: np.arange(1, n + 1),
        "rlnOpticsGroupName": [f"opticsGroup{i + 1}" for i in range(n)],
        **optics_columns(groups),
        DIMENSIONS: np.full(n, 2),
    }
    if box.all():
        columns[BOX] = box
    unknown = [label for label in LENS if not np.isfinite(columns[label]).all()]
    return Table({label: values for label, values in columns.items() if label not in unknown})


def read_optics(
    optics: Table | None,
    particles: Table,
    path: Path,
    need_ctf: bool = True,
) -> OpticsOfFile:
    """Optics groups from the table of optics, or from the columns of the particles when there is none.

    Without ``need_ctf`` voltage, aberration and amplitude contrast may be missing, and are NaN then.

    Raises:
        InputError: a missing column or group, values that no microscope has, images that are not two-dimensional.
    """
    written = optics is not None
    if optics is None:
        optics, row = _from_columns(particles, path)
    else:
        row = _rows_of_groups(optics, particles, path)
    missing = [f"_{label}" for label in LENS if label not in optics]
    if need_ctf and missing == ["_rlnAmplitudeContrast"]:
        raise InputError(
            f"{path} has no _rlnAmplitudeContrast: add the column with the value of your CTF estimation "
            "(often 0.07 or 0.1)."
        )
    if need_ctf and missing:
        raise InputError(
            f"{path} has no CTF: column {', '.join(missing)} is missing; estimate the CTF first."
        )
    pixel_size = _pixel_sizes(optics, path)
    _check_lenses(optics, path)
    _check_dimensions(optics, particles, path)
    box = np.zeros(optics.rows, dtype=np.int64)
    if BOX in optics:
        box = optics.integers(BOX, path)
        wrong = box[np.unique(row)].min()
        if wrong < 2:
            raise InputError(f"_{BOX} is {wrong} in {path}: give the box of the images.")
    ignored = _per_particle(optics, particles, row, path) if written else []

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))

    if GROUP not in optics:  # one group without a number
        optics = Table({GROUP: np.arange(1, optics.rows + 1), **{x: optics.raw(x) for x in optics}})
    none = np.full(optics.rows, np.nan)
    voltage, aberration, contrast = (
        tensor(optics.floats(x, path) if x in optics else none) for x in LENS
    )
    groups = Optics(
        voltage, aberration, contrast, tensor(pixel_size), **read_aberrations(optics, path)
    )
    number = optics.integers(GROUP, path)[row]
    return OpticsOfFile(groups, row, number, pixel_size, box, optics, written, ignored)


def _from_columns(particles: Table, path: Path) -> tuple[Table, np.ndarray]:
    """RELION 3.0: particles with the same lens, pixel size and tilt make a group, in order of appearance."""
    labels = [label for label in OPTICS_OF_PARTICLES if label in particles]
    if not labels:
        return Table(), np.zeros(particles.rows, dtype=np.int64)
    values = np.stack([particles.floats(label, path) for label in labels], 1)
    _, first, row = np.unique(values, axis=0, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    texts = {label: particles.raw(label)[np.sort(first)] for label in labels}
    return Table(texts), rank[row.ravel()].astype(np.int64)


def _rows_of_groups(optics: Table, particles: Table, path: Path) -> np.ndarray:
    """Row of the table of optics for each particle; numbers need not be in order."""
    if not optics.rows:
        raise InputError(f"The table data_optics of {path} is empty: add the optics groups.")
    if GROUP not in particles or GROUP not in optics:
        if optics.rows == 1:
            return np.zeros(particles.rows, dtype=np.int64)
        where = "data_optics" if GROUP in particles else "the particle table"
        raise InputError(
            f"{path} has {optics.rows} optics groups but no _{GROUP} in {where}: add it."
        )
    numbers = optics.integers(GROUP, path)
    if len(np.unique(numbers)) != len(numbers):
        raise InputError(
            f"An optics group is defined twice in {path}: numbers are {numbers.tolist()}."
        )
    wanted = particles.integers(GROUP, path)
    order = np.argsort(numbers)
    place = np.clip(np.searchsorted(numbers[order], wanted), 0, len(numbers) - 1)
    row = order[place]
    lost = numbers[row] != wanted
    if lost.any():
        particle = int(np.argmax(lost))
        raise InputError(
            f"Particle {particle + 1} of {path} is in optics group {wanted[particle]}, which data_optics does not "
            f"define (it has {', '.join(map(str, numbers))}): add the group."
        )
    return row


def _pixel_sizes(optics: Table, path: Path) -> np.ndarray:
    if PIXEL in optics:
        sizes = optics.floats(PIXEL, path)
    elif all(label in optics for label in OLD_PIXEL):
        micrometres, magnification = (optics.floats(label, path) for label in OLD_PIXEL)
        if (magnification <= 0).any():
            raise InputError(
                f"_rlnMagnification is {magnification.min():g} in {path}: it must be positive."
            )
        sizes = 1e4 * micrometres / magnification  # 1 µm = 1e4 Å
    else:
        raise InputError(f"{path} has no pixel size: add _{PIXEL} (Å) to its optics.")
    wrong = np.flatnonzero((sizes < PIXEL_SIZES[0]) | (sizes > PIXEL_SIZES[1]))
    if len(wrong):
        group = f" of optics group {wrong[0] + 1}" if len(sizes) > 1 else ""
        raise InputError(
            f"The pixel size{group} is {sizes[wrong[0]]:g} Å in {path}: give it in Å, from {PIXEL_SIZES[0]} to {PIXEL_SIZES[1]}."
        )
    return sizes


def _check_lenses(optics: Table, path: Path) -> None:
    limits = dict(
        zip(LENS, ((1, 10000, "kV"), (-100, 100, "mm"), (0, 1, "(a fraction)")), strict=True)
    )
    for label, (low, high, unit) in limits.items():
        values = optics.floats(label, path) if label in optics else np.zeros(0)
        wrong = values[(values < low) | (values > high)]
        if len(wrong):
            raise InputError(
                f"_{label} is {wrong[0]:g} in {path}: give a value from {low} to {high} {unit}."
            )


def _check_dimensions(optics: Table, particles: Table, path: Path) -> None:
    for table in (optics, particles):
        if DIMENSIONS in table:
            dimensions = table.integers(DIMENSIONS, path)
            if (dimensions != 2).any():
                raise InputError(
                    f"_{DIMENSIONS} is {dimensions[dimensions != 2][0]} in {path}: give 2D particles."
                )


def _per_particle(optics: Table, particles: Table, row: np.ndarray, path: Path) -> list[Finding]:
    """Since RELION 3.1 the table of optics alone counts; where the particles' columns say otherwise."""

    def differs(label: str) -> bool:
        of_group = optics.floats(label, path)[row] if label in optics else 0.0
        return label in particles and bool(
            (np.abs(particles.floats(label, path) - of_group) > 1e-6).any()
        )

    if differs(PREMULTIPLIED):
        raise InputError(
            f"_{PREMULTIPLIED} of the particles of {path} is not that of their optics groups: correct data_optics."
        )
    tilts = [f"_{label}" for label in TILT if differs(label)]
    if not tilts:
        return []
    what = dict(columns=", ".join(tilts), file=str(path))
    return [remark("columns_not_applied", **what)]
