"""A table of a STAR file: columns of text or numbers by label, and numbers out of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path

import numpy as np

from cryotorch.data.decimals import read_decimals
from cryotorch.errors import InputError

BIGGEST = 1e30  # beyond it a number is a mistake, and float32 soon overflows


class Table(MutableMapping[str, np.ndarray]):
    """The columns of a block by label (without the underscore), in order.

    A column is kept as it was assigned (arrays are not copied): text, numbers (n,), or numbers (n, k), a vector per
    row. ``table["rlnX"]`` is an array of str; ``floats``, ``integers`` and ``vectors`` read numbers. Numbers become
    text in ``raw``: float64 with six decimals, float32 in its shortest exact form, integers as they are, vectors
    as ``[a,b,c]``.

    Attributes:
        single: written as label-value pairs instead of a loop (one row).
    """

    def __init__(self, columns: Mapping[str, Iterable] | None = None, single: bool = False):
        self._columns: dict[str, np.ndarray] = {}
        self.single = single
        for label, values in (columns or {}).items():
            self[label] = values

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def __getitem__(self, label: str) -> np.ndarray:
        column = self.raw(label)
        try:
            return column.astype(str)
        except UnicodeDecodeError:
            return np.char.decode(column, "utf-8", "surrogateescape")

    def __setitem__(self, label: str, values: Iterable) -> None:
        column = _column(values)
        others = [name for name in self._columns if name != label]
        if others and len(column) != self.rows:
            raise ValueError(
                f"Column {label} has {len(column)} values in a table of {self.rows} rows."
            )
        self._columns[label] = column

    def __delitem__(self, label: str) -> None:
        del self._columns[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, label: object) -> bool:  # the inherited one makes text of the column
        return label in self._columns

    def __eq__(self, other: object) -> bool:
        """The same when written."""
        if not isinstance(other, Table):
            return NotImplemented
        same_form = self.single == other.single and list(self) == list(other)
        return same_form and all(np.array_equal(self.raw(x), other.raw(x)) for x in self)

    def column(self, label: str) -> np.ndarray:
        """The column as it is kept: text as bytes (n,), or numbers (n,) or (n, k)."""
        return self._columns[label]

    def raw(self, label: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows start to stop of the column as UTF-8 bytes: the cheap way into a million rows of text."""
        return _text(self._columns[label][start:stop])

    def copy(self) -> Table:
        """A table whose columns can be exchanged without touching this one."""
        return self.rename({})

    def taken(self, rows: np.ndarray) -> Table:
        """A table of some of the rows (m,)."""
        return Table({label: column[rows] for label, column in self._columns.items()})

    def rename(self, names: dict[str, str]) -> Table:
        """A copy with some labels exchanged in their places."""
        other = Table(single=self.single)
        other._columns = {
            names.get(label, label): column for label, column in self._columns.items()
        }
        return other

    def floats(self, label: str, path: str | Path = "") -> np.ndarray:
        """The column as float64 (n,).

        Raises:
            InputError: a value is not a finite number; ``path`` is named.
        """
        column = self._columns[label]
        if column.ndim == 2:
            column = self.raw(label)
        numbers = _numbers(column)
        self._refuse(~(np.abs(numbers) < BIGGEST), label, path, "a finite number")
        return numbers

    def integers(self, label: str, path: str | Path = "") -> np.ndarray:
        """The column as int64 (n,); 3.0 counts as 3.

        Raises:
            InputError: a value is not a whole number; ``path`` is named.
        """
        column = self._columns[label]
        if column.ndim == 1 and np.can_cast(column.dtype, np.int64):
            return column.astype(np.int64)
        numbers = self.floats(label, path)
        bad = (numbers != np.round(numbers)) | (np.abs(numbers) > 2**53)
        self._refuse(bad, label, path, "a whole number")
        return numbers.astype(np.int64)

    def vectors(self, label: str, path: str | Path = "") -> np.ndarray:
        """The column of vectors, ``[a,b,c]`` as text, as float64 (n, k).

        Raises:
            InputError: a value is not a list of finite numbers, or not as long as in the first row; ``path`` is named.
        """
        column = self._columns[label]
        if column.ndim == 2:
            numbers = column.astype(np.float64)
        else:
            rows = [_parts(text) for text in self.raw(label).tolist()]
            width = len(rows[0]) if rows else 0
            bad = np.array([not row or len(row) != width for row in rows], dtype=bool)
            self._refuse(bad, label, path, f"{width or 'some'} numbers as [a,b,c]")
            parts = np.array([part for row in rows for part in row], dtype=bytes)
            numbers = _numbers(parts).reshape(len(rows), width)
        bad = ~(np.abs(numbers) < BIGGEST)
        self._refuse(np.asarray(bad.any(1)), label, path, "finite numbers")
        return numbers

    def _refuse(self, bad: np.ndarray, label: str, path: str | Path, requirement: str) -> None:
        """Name the first bad row (n,)."""
        if bad.any():
            row = int(np.argmax(bad))
            value = self.raw(label, row, row + 1)[0].decode("utf-8", "replace")
            raise InputError(
                f"_{label} is '{value}' in row {row + 1} of {path}: give {requirement}."
            )


def _column(values: Iterable) -> np.ndarray:
    """An array of numbers, or of UTF-8 bytes for everything else."""
    if not isinstance(values, np.ndarray):
        values = list(values)
        if all(isinstance(value, str) for value in values):
            values = np.array(
                values, dtype=object
            )  # str takes four bytes per letter of the longest
    array = np.asarray(values)
    numbers = array.dtype.kind in "fiub"
    if array.ndim != 1 and not (numbers and array.ndim == 2):
        raise ValueError(f"A column has one dimension, got shape {array.shape}.")
    if numbers or array.dtype.kind == "S":
        return array if array.itemsize else array.astype("S1")
    encoded = [str(text).encode("utf-8", "surrogateescape") for text in array.tolist()]
    return np.array(encoded, dtype=bytes)


def _text(column: np.ndarray) -> np.ndarray:
    """Any column as UTF-8 bytes."""
    if column.dtype.kind == "S":
        return column
    if column.ndim == 2:
        rows = _text(column.ravel()).reshape(column.shape).tolist()
        return np.array([b"[%s]" % b",".join(row) for row in rows], dtype=bytes)
    if column.dtype.kind == "b":
        column = column.astype(np.int8)
    if column.dtype.kind != "f" or column.itemsize < 8:
        return column.astype(bytes)
    return np.array((b"%.6f " * len(column) % tuple(column.tolist())).split(), dtype=bytes)


def _numbers(column: np.ndarray) -> np.ndarray:
    """A column (n,) as float64, NaN for what is no number."""
    return read_decimals(column) if column.dtype.kind == "S" else column.astype(np.float64)


def _parts(text: bytes) -> list[bytes]:
    """The numbers of ``[a,b,c]``; none where it is something else."""
    text = text.strip()
    return text[1:-1].split(b",") if text[:1] == b"[" and text[-1:] == b"]" else []
