"""Fields of a .cs file as columns of a STAR file, to the bit, and their list.

A column ``cs/<field>`` holds what RELION has no word for: numbers as numbers, in their shortest exact form when written,
several per row as ``[a,b,c]``, text as text. The table ``data_cryosparc_fields`` names all fields in order with
their types.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cryotorch.data.cryosparc.fields import FIELDS, is_of_kind, is_printable
from cryotorch.data.cryosparc.file import is_plain
from cryotorch.data.table import Table
from cryotorch.errors import InputError

PREFIX, LIST = "cs/", "cryosparc_fields"
FIELD, TYPE, SHAPE = "cryosparcField", "cryosparcType", "cryosparcShape"
_NUMBER = re.compile(rb"[-+]?([0-9]+\.?[0-9]*(e[-+]?[0-9]+)?|nan|inf)")
HEX = "hex:"  # before the type of a field whose column holds the bytes of its rows


def fields_table(fields: dict[str, np.ndarray]) -> Table:
    """Names, types and shapes of fields (n, ...), ``2x2`` for two by two values per row and ``-`` for one."""
    return Table(
        {
            FIELD: list(fields),
            TYPE: [_type(values) for values in fields.values()],
            SHAPE: ["x".join(map(str, values.shape[1:])) or "-" for values in fields.values()],
        }
    )


def listed_fields(table: Table, path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type, as in the list, and shape of the fields by name; raises InputError for another list."""
    if not all(label in table for label in (FIELD, TYPE, SHAPE)):
        raise InputError(
            f"The table data_{LIST} of {path} lacks _{FIELD}, _{TYPE} or _{SHAPE}: remove the table."
        )
    found = {}
    for name, kind, shape in zip(table[FIELD], table[TYPE], table[SHAPE], strict=True):
        try:
            sizes = () if shape == "-" else tuple(int(size) for size in shape.split("x"))
            dtype = np.dtype(kind.removeprefix(HEX))
            sane = is_plain(dtype) and all(0 <= size < 2**20 for size in sizes)
            if not sane or not is_of_kind(str(name), dtype.kind, sizes):
                raise ValueError
        except (TypeError, ValueError):
            raise InputError(
                f"The table data_{LIST} of {path} gives field {name} the type {kind} and the shape {shape}: correct "
                "it, as <f4 and 2 for example."
            ) from None
        found[str(name)] = (str(kind), sizes)
    return found


def guessed_fields(table: Table) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The same where the list was lost, as RELION keeps columns it does not know but not tables: from the first row."""
    found = {}
    for label in table:
        if label.startswith(PREFIX) and table.rows:
            name, first = label[len(PREFIX) :], table.raw(label, 0, 1)[0]
            kind, width, _ = FIELDS.get(name, ("", 0, None))
            if first.startswith(b"["):
                width = first.count(b",") + 1
            if not kind:
                numbers = first.strip(b"[]").split(b",")
                if all(number.isdigit() for number in numbers):
                    kind = "u8"
                else:
                    kind = "f4" if all(_NUMBER.fullmatch(number) for number in numbers) else "S"
            found[name] = (kind, (width,) if width else ())
    return found


def _type(values: np.ndarray) -> str:
    kind = values.dtype.kind
    plain = kind in "biu" or (kind == "f" and values.dtype.itemsize <= 8)
    if values.ndim > 2 or 0 in values.shape[1:] or (kind == "S" and values.ndim > 1):
        plain = False
    if kind == "S" and values.ndim == 1:
        quotes = b"'" in (every := b"".join(values.tolist())) and b'"' in every
        plain = is_printable(values) and not quotes
    return ("" if plain else HEX) + values.dtype.str


def to_column(values: np.ndarray) -> np.ndarray:
    """A field (n, ...) as a column."""
    n = len(values)
    if _type(values).startswith(HEX):
        rows = np.ascontiguousarray(values).reshape(n, -1)
        return np.array([row.tobytes().hex().encode() for row in rows])
    if values.dtype.kind == "f" and values.itemsize == 8:  # would be rounded to six decimals
        rows = values.tolist()
        texts = [repr(row).replace(" ", "") for row in rows]
        return np.array(texts, dtype=bytes)
    return values


def from_column(
    table: Table, label: str, kind: str, shape: tuple[int, ...], path: Path
) -> np.ndarray:
    """The field (n, ...) of a column; raises InputError when the column is no such thing."""
    column, dtype = table.column(label), np.dtype(kind.removeprefix(HEX))
    n = len(column)
    try:
        if kind.startswith(HEX):
            raw = b"".join(bytes.fromhex(text.decode()) for text in table.raw(label).tolist())
            return np.frombuffer(raw, dtype).reshape(n, *shape)
        if dtype.kind == "S":
            return column.astype(f"S{max(dtype.itemsize, column.dtype.itemsize)}").reshape(
                n, *shape
            )
        if column.dtype.kind == "S":
            parts = b",".join(column.tolist()).translate(None, b"[]").split(b",")
            column = np.array(parts)
            if dtype.kind in "fb":
                column = column.astype(np.float64)
        with np.errstate(all="ignore"):
            return column.astype(dtype).reshape(n, *shape)
    except (ValueError, OverflowError):
        each = "x".join(map(str, shape)) or "1"
        raise InputError(
            f"_{label} of {path} does not hold {each} value of type {kind} per row: correct or remove the column."
        ) from None
