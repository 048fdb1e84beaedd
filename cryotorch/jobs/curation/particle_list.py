"""A list of particles as curation works on it: the tables of its file, and which image each row shows."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cryotorch.data.aberrations import read_aberrations
from cryotorch.data.cryosparc.carried_columns import FIELD, LIST, PREFIX
from cryotorch.data.cryosparc.file import is_cs
from cryotorch.data.cryosparc.mapping import uids
from cryotorch.data.image_names import parse_names
from cryotorch.data.optics import GROUP, PIXEL
from cryotorch.data.particle_file import ParticleFile, read_particles
from cryotorch.data.particle_tables import ANGLES, ORIGINS
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import closest
from cryotorch.jobs.inputs.image_names import lead_from, moved_to, named_as_originals
from cryotorch.ops.geometry.rotations import euler_to_matrix, matrix_to_euler

UID = PREFIX + "uid"


@dataclass(frozen=True)
class ParticleList:
    """Particles without their images.

    Attributes:
        path: of the file, named in sentences.
        tables: "particles", "optics" and the others, in the layout of RELION 3.1.
        stacks: the image files, whole paths where they are found, else the names of them.
        image: (n, 2) int64, which of ``stacks`` and the 0-based number of the image in it.
    """

    path: Path
    tables: dict[str, Table]
    stacks: list[str]
    image: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    @property
    def table(self) -> Table:
        """The particles."""
        return self.tables["particles"]

    @property
    def optics(self) -> Table:
        """The optics groups."""
        return self.tables["optics"]

    @property
    def labels(self) -> list[str]:
        """The columns of particles and optics groups."""
        return [*self.table, *(label for label in self.optics if label not in self.table)]

    def group(self) -> np.ndarray:
        """(n,) row of each particle's optics group."""
        numbers = self.optics.integers(GROUP)
        order = np.argsort(numbers)
        return order[np.searchsorted(numbers[order], self.table.integers(GROUP))]

    def numbers(self, label: str) -> np.ndarray:
        """A column as float64 (n,), that of the optics groups too; raises InputError where it is none."""
        if label in self.table:
            return self.table.floats(label, self.path)
        return self.optics.floats(self._of_optics(label), self.path)[self.group()]

    def texts(self, label: str) -> np.ndarray:
        """A column as text (n,) in bytes, that of the optics groups too; raises InputError where there is none."""
        if label in self.table:
            return self.table.raw(label)
        return self.optics.raw(self._of_optics(label))[self.group()]

    def _of_optics(self, label: str) -> str:
        if label not in self.optics:
            near = closest(label, self.labels)
            raise InputError(f"{self.path} has no column {label}{near}")
        return label

    def image_code(self) -> np.ndarray:
        """(n,) int64, the same for rows of one image only."""
        return self.image[:, 0] * 2**40 + self.image[:, 1]

    def pixel_size(self) -> np.ndarray:
        """(n,) Å per pixel of the images."""
        return self.numbers(PIXEL)

    def rotation(self) -> torch.Tensor:
        """(n, 3, 3) float64; raises InputError where there are no angles."""
        if not all(label in self.table for label in ANGLES):
            raise InputError(f"{self.path} has no poses (_{ANGLES[0]})")
        angles = (np.deg2rad(self.table.floats(label, self.path)) for label in ANGLES)
        return euler_to_matrix(*map(torch.from_numpy, angles))

    def shift(self) -> np.ndarray:
        """(n, 2) origins in Å, 0 where the file has none."""
        none = np.zeros(len(self))
        given = (self.table.floats(x, self.path) if x in self.table else none for x in ORIGINS)
        return np.stack(list(given), 1)

    def magnification(self) -> np.ndarray:
        """(n, 2, 2) from frequencies of the images to those of the reference, ones on the diagonal where the file has none."""
        matrix = read_aberrations(self.optics, self.path).get("magnification")
        if matrix is None:
            return np.broadcast_to(np.eye(2), (len(self), 2, 2))
        return matrix.double().numpy()[self.group()]

    def taken(self, rows: np.ndarray) -> ParticleList:
        """Some of the rows: which (m,), or whether (n,) bool."""
        tables = {**self.tables, "particles": self.table.taken(rows)}
        return replace(self, tables=tables, image=self.image[rows])

    def with_columns(self, columns: dict[str, np.ndarray]) -> ParticleList:
        """With other or further columns (n,) of the particles."""
        table = self.table.copy()
        for label, values in columns.items():
            table[label] = values
        return replace(self, tables={**self.tables, "particles": table})

    def with_rotation(self, rotation: torch.Tensor, changed: np.ndarray) -> ParticleList:
        """With the angles of rotations (n, 3, 3) in the rows that have ``changed`` (n,) bool, the others to the digit as they were."""
        columns = {}
        for label, angle in zip(ANGLES, matrix_to_euler(rotation), strict=True):
            texts = Table({label: np.rad2deg(angle.numpy())}).raw(label)
            columns[label] = np.where(changed, texts, self.table.raw(label))
        return self.with_columns(columns)

    def without(self, labels: list[str]) -> ParticleList:
        """Without some columns, also in the list of CryoSPARC's fields."""
        table = self.table.copy()
        for label in labels:
            table.pop(label, None)
        tables = {**self.tables, "particles": table}
        if LIST in tables and FIELD in tables[LIST]:
            gone = [label.removeprefix(PREFIX) for label in labels if label.startswith(PREFIX)]
            tables[LIST] = tables[LIST].taken(~np.isin(tables[LIST][FIELD], gone))
        return replace(self, tables=tables)

    def with_uid(self) -> ParticleList:
        """With CryoSPARC's number of each particle, made of the name of its image where there is none."""
        if UID in self.table:
            return self
        names, address = parse_names(self.table.raw("rlnImageName"), self.path)
        stacks = np.array([os.fsencode(name) for name in names])
        return self.with_columns({UID: uids(stacks, address)})

    def pruned(self) -> ParticleList:
        """With those optics groups only that have particles."""
        used = np.isin(self.optics.integers(GROUP), self.table.integers(GROUP))
        return replace(self, tables={**self.tables, "optics": self.optics.taken(used)})


def read_list(
    path: str,
    of_class: int | None = None,
    moved: list[str] | None = None,
    project: str | None = None,
    out: str | Path = ".",
    originals: bool = False,
) -> tuple[ParticleList, list[Finding], int]:
    """The particles of a file, with image names that are good in ``out``; what is to be told, and how many rows ``moved`` renames.

    Args:
        of_class: see ``read_particles``; moved: what names begin with, and what they shall begin with; project: see ``lead_from``.
        originals: name the images that those of the file were made of.

    Raises:
        InputError: the file cannot be read.
    """
    file = read_particles(path, need_images=False, need_half_sets=False, of_class=of_class)
    if originals:
        file = named_as_originals(file)
    renamed = 0
    if moved is not None:
        file, renamed = moved_to(with_numbers(file), *moved)
    made, told = listed(file, project, out)
    return made, [*file.messages, *told], renamed


def with_numbers(file: ParticleFile) -> ParticleFile:
    """A .cs file with its particles' numbers as a column: they outlive new names."""
    return replace(file, tables=_listed(file).with_uid().tables) if is_cs(file.path) else file


def listed(
    file: ParticleFile, project: str | None, out: str | Path
) -> tuple[ParticleList, list[Finding]]:
    """A file as a list whose image names are good in ``out``, see ``lead_from``; what is to be told."""
    named = lead_from(with_numbers(file), project, Path(out))
    stacks = [
        str(found.resolve() if found is not None else name)
        for name, found in zip(file.stacks, named.found, strict=True)
    ]
    return _listed(named.file, stacks), named.told


def _listed(file: ParticleFile, stacks: list[str] | None = None) -> ParticleList:
    """A file as a list, with other names for its stacks, some of which may be the same."""
    number: dict[str, int] = {}
    stacks = [str(stack) for stack in file.stacks] if stacks is None else stacks
    once = np.array([number.setdefault(stack, len(number)) for stack in stacks])
    image = file.particles.address.numpy().copy()
    image[:, 0] = once[image[:, 0]]
    return ParticleList(file.path, file.tables, list(number), image)
