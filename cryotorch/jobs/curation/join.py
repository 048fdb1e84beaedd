"""Several lists of particles as one, with their optics groups kept apart or matched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from cryotorch.data.aberrations import LENS
from cryotorch.data.cryosparc.carried_columns import FIELD, HEX, LIST, PREFIX, TYPE
from cryotorch.data.half_sets import HALF
from cryotorch.data.optics import BOX, GROUP, PIXEL
from cryotorch.data.particle_file import DEFOCUS_COLUMNS
from cryotorch.data.particle_tables import ANGLES, ORIGINS
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.curation.particle_list import UID, ParticleList

GROUP_NAME = "rlnOpticsGroupName"
# Columns that must be in all files or in none, as no value stands for "unknown", and how to do without them.
WHOLE = {
    **dict.fromkeys(ANGLES, "reset=[angles]"),
    **dict.fromkeys(ORIGINS, "reset=[origins]"),
    HALF: "reset=[half_sets]",
    **dict.fromkeys(DEFOCUS_COLUMNS, ""),
    **dict.fromkeys(LENS, ""),
    PIXEL: "",
}
ONES = ("rlnMagMat00", "rlnMagMat11", "rlnCtfScalefactor", "cryotorchScale", "cs/blob/sign")


def join(
    lists: list[ParticleList], match: bool, dropped: Iterable[str] = ()
) -> tuple[ParticleList, list[Finding]]:
    """All particles, those of the first list first; what is to be told.

    Columns that some lists lack hold 0 there, or None where they are text.

    Args:
        match: whether groups of the same values become one; else each list keeps its own, under new numbers and names where those are taken.
        dropped: columns that go later, which need not be in all lists.

    Raises:
        InputError: poses, half sets or CTF are known in some lists and not in others.
    """
    if len(lists) == 1:
        return lists[0], []
    if any(UID in one.table for one in lists):
        lists = [one.with_uid() for one in lists]
    told = [*_refuse_gaps(lists, set(dropped)), *_images_of_several(lists)]
    optics, rows = _joined_optics(lists, match)
    tables = {**lists[0].tables, "optics": optics}
    for others in lists[1:]:
        for name, table in others.tables.items():
            if name not in tables:
                tables[name] = table
            elif name not in ("optics", "particles", LIST) and tables[name] != table:
                told.append(Finding("table_of_one", table=f"data_{name}", file=str(others.path)))
    listed = [one.tables[LIST] for one in lists if LIST in one.tables]
    if listed:
        tables[LIST] = _joined_fields(listed)
    particles = _stacked([one.table for one in lists], tables.get(LIST))
    particles[GROUP] = optics.integers(GROUP)[rows]
    stacks: dict[str, int] = {}
    image = []
    for one in lists:
        number = np.array([stacks.setdefault(name, len(stacks)) for name in one.stacks])
        image.append(np.stack([number[one.image[:, 0]], one.image[:, 1]], 1))
    tables["particles"] = particles
    whole = replace(lists[0], tables=tables, stacks=list(stacks), image=np.concatenate(image))
    again = len(whole) - len(np.unique(whole.image_code()))
    before = sum(len(one) - len(np.unique(one.image_code())) for one in lists)
    if again > before:
        told.append(Finding("images_joined_twice", images=again - before))
    return whole, told


def _refuse_gaps(lists: list[ParticleList], dropped: set[str]) -> list[Finding]:
    """Raise InputError for what only some lists know and no value stands for; the other columns that some lack."""
    filled: dict[str, None] = {}
    for label in dict.fromkeys(label for one in lists for label in one.labels):
        having = [one for one in lists if label in one.labels]
        lacking = [one for one in lists if label not in one.labels]
        if not lacking:
            continue
        if label in WHOLE and label not in dropped:
            remedy = f", or add {WHOLE[label]}" if WHOLE[label] else ""
            raise InputError(
                f"{having[0].path} has _{label} and {lacking[0].path} has not: join files that both have it{remedy}."
            )
        if label not in (BOX, GROUP, GROUP_NAME):
            filled[label] = None
    if not filled:
        return []
    return [remark("columns_filled", columns=", ".join(f"_{label}" for label in filled))]


def _images_of_several(lists: list[ParticleList]) -> list[Finding]:
    """That pixel sizes or boxes differ."""
    sizes = np.concatenate([one.optics.floats(PIXEL) for one in lists])
    boxes = [one.optics.integers(BOX) for one in lists if BOX in one.optics]
    box = np.concatenate(boxes) if boxes else np.zeros(1, int)
    if np.ptp(sizes) < 1e-4 * sizes.max() and np.ptp(box) == 0:
        return []
    limits = dict(least_size=float(sizes.min()), most_size=float(sizes.max()))
    edges = dict(least_box=int(box.min()), most_box=int(box.max()))
    return [remark("grids_joined", **limits, **edges)]


def _joined_optics(lists: list[ParticleList], match: bool) -> tuple[Table, np.ndarray]:
    """The table of groups (g,) and each particle's row (n,) in it."""
    tables = [one.optics for one in lists]
    if not all(BOX in table for table in tables):
        tables = [Table({x: table.column(x) for x in table if x != BOX}) for table in tables]
    stacked = _stacked(tables)
    start = np.cumsum([0, *(table.rows for table in tables)])
    rows = np.concatenate([one.group() + s for one, s in zip(lists, start[:-1], strict=True)])
    if match:
        keys = [
            tuple(_comparable(stacked.raw(x)[row]) for x in stacked if x not in (GROUP, GROUP_NAME))
            for row in range(stacked.rows)
        ]
        first = np.array([keys.index(key) for key in keys])
        kept, place = np.unique(first, return_inverse=True)
        stacked, rows = stacked.taken(kept), place.ravel()[rows]
    numbers = stacked.integers(GROUP)
    if len(np.unique(numbers)) < len(numbers):
        stacked[GROUP] = np.arange(1, len(numbers) + 1)
    if GROUP_NAME in stacked:
        stacked[GROUP_NAME] = unique_names(stacked[GROUP_NAME].tolist())
    return stacked, rows


def unique_names(names: list[str]) -> list[str]:
    """The names, with _2, _3 and so on behind those that are taken."""
    seen: set[str] = set()
    unique = []
    for name in names:
        number, new = 1, name
        while new in seen or (number > 1 and new in names):
            number += 1
            new = f"{name}_{number}"
        seen.add(new)
        unique.append(new)
    return unique


def _comparable(text: bytes) -> float | bytes:
    """A value of the optics by which two groups are the same: 2.7 is 2.700000."""
    try:
        return round(float(text), 6)
    except ValueError:
        return text


def _joined_fields(tables: list[Table]) -> Table:
    """All of CryoSPARC's fields in the lists, each once."""
    whole = _stacked(tables)
    _, first = np.unique(whole[FIELD], return_index=True)
    return whole.taken(np.sort(first))


def _stacked(tables: list[Table], fields: Table | None = None) -> Table:
    """The rows of all tables, one after the other: numbers of one type stay such, all else is text, to the digit as it was.

    ``fields`` is the list of CryoSPARC's fields, some of which are the bytes of a row.
    """
    joined, coded = Table(), set[str]()
    if fields is not None:
        pairs = zip(fields[FIELD], fields[TYPE], strict=True)
        coded = {PREFIX + str(name) for name, kind in pairs if kind.startswith(HEX)}
    for label in dict.fromkeys(label for table in tables for label in table):
        having = [table for table in tables if label in table]
        empty = _nothing(label, having[0])
        if label in coded:
            empty = b"0" * len(having[0].raw(label, 0, 1)[0])
        parts = [
            table.column(label) if label in table else np.full(table.rows, empty)
            for table in tables
        ]
        if len({(part.dtype.kind, part.dtype, part.shape[1:]) for part in parts}) > 1:
            parts = [Table({label: part}).raw(label) for part in parts]
            if empty == b"[0]":
                parts = _of_one_length(parts)
        joined[label] = np.concatenate(parts)
    return joined


def _of_one_length(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Vectors as text, (n,) each, with zeros behind the shorter ones: coefficients of higher order."""
    lengths = [part[0].count(b",") + 1 if len(part) else 0 for part in parts]
    more = [b",0" * (max(lengths) - length) + b"]" for length in lengths]
    return [
        np.array([text.removesuffix(b"]") + end for text in part.tolist()], dtype=bytes)
        for part, end in zip(parts, more, strict=True)
    ]


def _nothing(label: str, table: Table) -> bytes:
    """What a column holds where nothing is known, by the first value where something is."""
    if label in ONES:
        return b"1"
    first = table.raw(label, 0, 1)[0] if table.rows else b"0"
    if first.startswith(b"["):
        return b"[0]"
    try:
        float(first)
    except ValueError:
        return b"None"
    return b"0"
