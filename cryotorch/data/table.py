"""A table of a STAR file: columns of text by label, and numbers out of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path

import numpy as np

from cryotorch.errors import InputError


class Table(MutableMapping[str, np.ndarray]):
    """The columns of a block by label (without the underscore), in order; every value is text.

    ``table["rlnX"]`` is an array of str; assigning floats writes them with six decimals, integers as they are.
    ``floats`` and ``integers`` read numbers.

    Attributes:
        single: written as label-value pairs instead of a loop (one row).
    """

    def __init__(self, columns: dict[str, Iterable] | None = None, single: bool = False):
        self._columns: dict[str, np.ndarray] = {}
        self.single = single
        for label, values in (columns or {}).items():
            self[label] = values

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def __getitem__(self, label: str) -> np.ndarray:
        column = self._columns[label]
        try:
            return column.astype(str)
        except UnicodeDecodeError:
            return np.char.decode(column, "utf-8", "surrogateescape")

    def __setitem__(self, label: str, values: Iterable) -> None:
        column = _to_text(values)
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        same_form = self.single == other.single and list(self) == list(other)
        return same_form and all(np.array_equal(self.raw(x), other.raw(x)) for x in self)

    def raw(self, label: str) -> np.ndarray:
        """The column as UTF-8 bytes: the cheap way into a million rows."""
        return self._columns[label]

    def copy(self) -> Table:
        """A table whose columns can be exchanged without touching this one."""
        return self.rename({})

    def rename(self, names: dict[str, str]) -> Table:
        """A copy with some labels exchanged in their places."""
        other = Table(single=self.single)
        other._columns = {
            names.get(label, label): column for label, column in self._columns.items()
        }
        return other

    def floats(self, label: str, path: str | Path = "") -> np.ndarray:
        """The column as float64.

        Raises:
            InputError: a value is not a finite number; ``path`` is named.
        """
        column = self._columns[label]
        try:
            numbers = column.astype(np.float64)
        except ValueError:
            numbers = np.array([_to_float(text) for text in column.tolist()])
        bad = ~(np.abs(numbers) < 1e30)
        if bad.any():
            row = int(np.argmax(bad))
            value = self[label][row]
            raise InputError(
                f"_{label} is '{value}' in row {row + 1} of {path}: give a finite number."
            )
        return numbers

    def integers(self, label: str, path: str | Path = "") -> np.ndarray:
        """The column as int64; 3.0 counts as 3.

        Raises:
            InputError: a value is not a whole number; ``path`` is named.
        """
        numbers = self.floats(label, path)
        bad = (numbers != np.round(numbers)) | (np.abs(numbers) > 2**53)
        if bad.any():
            row = int(np.argmax(bad))
            value = self[label][row]
            raise InputError(
                f"_{label} is '{value}' in row {row + 1} of {path}: give a whole number."
            )
        return numbers.astype(np.int64)


def _to_float(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _to_text(values: Iterable) -> np.ndarray:
    """Any column as an array of UTF-8 bytes."""
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    if array.ndim != 1:
        raise ValueError(f"A column has one dimension, got shape {array.shape}.")
    if array.dtype.kind == "S":
        return array
    if array.dtype.kind == "f":
        array = np.array([f"{number:.6f}" for number in array.tolist()], dtype=str)
    elif array.dtype.kind in "iub":
        array = np.array([str(int(number)) for number in array.tolist()], dtype=str)
    encoded = [str(text).encode("utf-8", "surrogateescape") for text in array.tolist()]
    return np.array(encoded, dtype=bytes)
