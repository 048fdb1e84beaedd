"""The optics of a particle STAR file: a table of groups since RELION 3.1, columns of the particles before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.particles import Optics

LENS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
PIXEL = "rlnImagePixelSize"
OLD_PIXEL = ("rlnDetectorPixelSize", "rlnMagnification")
GROUP = "rlnOpticsGroup"
# Aberrations of an optics group that the image model leaves out, and the value that means none.
ABERRATIONS = {
    "rlnBeamTiltX": 0.0,
    "rlnBeamTiltY": 0.0,
    "rlnMagMat00": 1.0,
    "rlnMagMat01": 0.0,
    "rlnMagMat10": 0.0,
    "rlnMagMat11": 1.0,
}
ZERNIKE = ("rlnOddZernike", "rlnEvenZernike")


@dataclass(frozen=True)
class OpticsOfFile:
    """What a file says of its optics.

    Attributes:
        groups: one row per optics group.
        row: (n,) int64, row of each particle's group.
        number: (n,) int64, the group's number as files write it.
        pixel_size: Å, the same in all groups in use.
        box: pixels, None where the file does not say.
        written: the table as read, None in RELION 3.0 files.
    """

    groups: Optics
    row: np.ndarray
    number: np.ndarray
    pixel_size: float
    box: int | None
    written: Table | None

    def table(self, box: int) -> Table:
        """The table of optics to write: as read, or made from the particles' columns (box 0 = unknown)."""
        return self.written if self.written is not None else optics_table(self.groups, box)


def optics_table(groups: Optics, box: int) -> Table:
    """Optics groups as RELION 3.1 writes them, numbered from 1; box 0 = unknown."""
    n = len(groups.voltage_kv)
    columns = {
        GROUP: np.arange(1, n + 1),
        "rlnOpticsGroupName": [f"opticsGroup{i + 1}" for i in range(n)],
        "rlnVoltage": groups.voltage_kv.double().numpy(),
        "rlnSphericalAberration": groups.spherical_aberration.double().numpy(),
        "rlnAmplitudeContrast": groups.amplitude_contrast.double().numpy(),
        PIXEL: groups.pixel_size.double().numpy(),
        "rlnImageDimensionality": np.full(n, 2),
    }
    if box:
        columns["rlnImageSize"] = np.full(n, box)
    return Table(columns)


def read_optics(
    optics: Table | None, particles: Table, path: Path, messages: list[str]
) -> OpticsOfFile:
    """Optics groups from the table of optics, or from the columns of the particles when there is none.

    Raises:
        InputError: a missing column or group, values that no microscope has, several pixel sizes or boxes,
            images that were multiplied by their CTF or are not two-dimensional.
    """
    written = optics
    if optics is None:
        optics, row = _from_columns(particles, path)
    else:
        row = _rows_of_groups(optics, particles, path)
    missing = [f"_{label}" for label in LENS if label not in optics]
    if missing == ["_rlnAmplitudeContrast"]:
        raise InputError(
            f"{path} has no _rlnAmplitudeContrast: add the column with the value of your CTF estimation "
            "(often 0.07 or 0.1)."
        )
    if missing:
        raise InputError(
            f"{path} has no CTF: column {', '.join(missing)} is missing; estimate the CTF first."
        )
    pixel_size = _pixel_sizes(optics, path)
    used = np.unique(row)
    _check_lenses(optics, path)
    _refuse(optics, particles, path)
    _same(pixel_size[used], "pixel sizes", "Å", path)
    box = None
    if "rlnImageSize" in optics:
        boxes = optics.integers("rlnImageSize", path)[used]
        _same(boxes, "boxes", "pixels", path)
        box = int(boxes[0])
        if box < 2:
            raise InputError(f"_rlnImageSize is {box} in {path}: give the box of the images.")
    messages += _not_applied(optics, path)

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))

    if GROUP not in optics:  # one group without a number
        optics = Table({GROUP: np.arange(1, optics.rows + 1), **{x: optics.raw(x) for x in optics}})
        written = None if written is None else optics
    groups = Optics(*(tensor(optics.floats(label, path)) for label in LENS), tensor(pixel_size))
    number = optics.integers(GROUP, path)[row]
    return OpticsOfFile(groups, row, number, float(pixel_size[used[0]]), box, written)


def _from_columns(particles: Table, path: Path) -> tuple[Table, np.ndarray]:
    """RELION 3.0: particles with the same lens and pixel size make a group, in order of appearance."""
    labels = [label for label in (*LENS, PIXEL, *OLD_PIXEL, "rlnImageSize") if label in particles]
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
    if ((sizes < 1e-3) | (sizes > 1e4)).any():
        wrong = sizes[(sizes < 1e-3) | (sizes > 1e4)][0]
        raise InputError(f"The pixel size is {wrong:g} Å in {path}: correct it.")
    return sizes


def _check_lenses(optics: Table, path: Path) -> None:
    limits = dict(
        zip(LENS, ((1, 10000, "kV"), (-100, 100, "mm"), (0, 1, "(a fraction)")), strict=True)
    )
    for label, (low, high, unit) in limits.items():
        values = optics.floats(label, path)
        wrong = values[(values < low) | (values > high)]
        if len(wrong):
            raise InputError(
                f"_{label} is {wrong[0]:g} in {path}: give a value from {low} to {high} {unit}."
            )


def _refuse(optics: Table, particles: Table, path: Path) -> None:
    for table in (optics, particles):
        if "rlnCtfDataAreCtfPremultiplied" in table:
            if table.integers("rlnCtfDataAreCtfPremultiplied", path).any():
                raise InputError(
                    f"_rlnCtfDataAreCtfPremultiplied is 1 in {path}: images multiplied by their CTF are not "
                    "supported, extract them without."
                )
        if "rlnImageDimensionality" in table:
            dimensions = table.integers("rlnImageDimensionality", path)
            if (dimensions != 2).any():
                raise InputError(
                    f"_rlnImageDimensionality is {dimensions[dimensions != 2][0]} in {path}: give 2D particles."
                )


def _same(values: np.ndarray, what: str, unit: str, path: Path) -> None:
    if np.ptp(values) > 1e-3 * np.abs(values).max():
        listed = ", ".join(f"{value:g}" for value in np.unique(values))
        raise InputError(
            f"The optics groups of {path} have different {what} ({listed} {unit}): bring the particles to one, "
            "or refine the groups separately."
        )


def _not_applied(optics: Table, path: Path) -> list[str]:
    labels = [
        label
        for label, neutral in ABERRATIONS.items()
        if label in optics and np.any(optics.floats(label, path) != neutral)
    ]
    labels += [label for label in ZERNIKE if label in optics]
    if not labels:
        return []
    listed = ", ".join(f"_{label}" for label in labels)
    return [f"Aberrations of {path} are kept but not applied: {listed}."]
