"""CryoSPARC ``.cs`` files: columns by name. Nothing in them is ever unpickled.

Two containers go by that ending: a NumPy ``.npy`` file of one structured array, whose header may be longer than NumPy
itself accepts, and the compressed ``CSDAT`` stream, which cryosparc-tools reads where it is installed.
Format: numpy.lib.format of the NumPy manual.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cryotorch.data.files import open_input, replace_file
from cryotorch.errors import InputError

NUMPY, CSDAT = b"\x93NUMPY", b"\x95CSDAT"
# Bytes, which take 500 times the memory to read; real ones of a hundred fields have ten thousand.
MAX_HEADER = 2**18
MAX_ROW = 2**20  # bytes of a row; real ones have a few hundred
BYTES_AT_ONCE = 2**24  # bytes of rows turned into columns together
# What stands in a header besides names in quotes: nothing that Python would compute.
_HEADER = re.compile(r"[\s{}()\[\],:0-9]*")
_TYPE = re.compile(r"[<>|=]?[biufcSOUV][0-9]{0,9}")
_QUOTED = re.compile(r"'[^'\\]*'|\"[^\"\\]*\"|True|False")


def is_cs(path: str | Path) -> bool:
    """Whether a file begins as CryoSPARC's do; raises InputError when it cannot be read."""
    with open_input(path) as file:
        return file.read(6) in (NUMPY, CSDAT)


def read_cs(path: str | Path) -> dict[str, np.ndarray]:
    """The fields of a ``.cs`` file by name, in order: arrays (n,) or (n, k) in native byte order, text as bytes.

    Raises:
        InputError: missing, not a .cs file, damaged, truncated, with Python objects or without ``uid``; a CSDAT file
            when cryosparc-tools is not installed.
    """
    path = Path(path)
    with open_input(path) as file:
        magic = file.read(6)
        if magic == NUMPY:
            fields = _read_numpy(file, path)
        elif magic == CSDAT:
            _check_stream(file, path)
            fields = _read_stream(path)
        else:
            raise InputError(f"{path} is not a .cs file of CryoSPARC: it begins with other bytes.")
    if "uid" not in fields or fields["uid"].dtype != np.uint64 or fields["uid"].ndim != 1:
        raise InputError(f"{path} has no field uid of 64 bit: it is not a .cs file of CryoSPARC.")
    return fields


def write_cs(path: str | Path, fields: dict[str, np.ndarray]) -> None:
    """Write fields (n, ...) as CryoSPARC does, uncompressed, atomically.

    Raises:
        InputError: a field name that the header cannot hold, or a folder that cannot be written.
    """
    dtype = np.dtype([(name, x.dtype.newbyteorder("<"), x.shape[1:]) for name, x in fields.items()])
    n = len(next(iter(fields.values())))
    about = {"descr": dtype.descr, "fortran_order": False, "shape": (n,)}
    refuse_names(path, fields)
    step = max(1, BYTES_AT_ONCE // max(1, dtype.itemsize))
    with replace_file(path) as file:
        try:
            np.lib.format.write_array_header_1_0(file, about)
        except ValueError:  # longer than 64 KiB
            file.seek(0)
            file.truncate()
            np.lib.format.write_array_header_2_0(file, about)
        for start in range(0, n, step):
            rows = np.empty(min(step, n - start), dtype)
            for name, values in fields.items():
                rows[name] = values[start : start + step]
            file.write(rows.view(np.uint8).data if dtype.itemsize else b"")


def refuse_names(path: str | Path, fields: Iterable[str]) -> None:
    """Raises InputError for a field name that the header cannot hold."""
    strange = [name for name in fields if not _is_name(name) or not name.isascii()]
    if strange:
        raise InputError(
            f"'{strange[0]}' cannot be the name of a field in {path}: rename that column in plain letters."
        )


def _read_numpy(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    dtype, n = _read_header(file, path)
    step = max(1, BYTES_AT_ONCE // dtype.itemsize)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in dtype.names}
    for start in range(0, n, step):
        wanted = min(step, n - start) * dtype.itemsize
        rows = file.read(wanted)
        if len(rows) < wanted:
            whole = start + len(rows) // dtype.itemsize
            raise InputError(
                f"{path} is truncated, {whole} of its {n} rows are there: copy it again."
            )
        for name, values in parts.items():
            column = np.frombuffer(rows, dtype)[name]
            values.append(column.astype(column.dtype.newbyteorder("=")))
    return {
        name: np.concatenate(parts.pop(name)) if n else _empty(dtype[name]) for name in dtype.names
    }


def _empty(dtype: np.dtype) -> np.ndarray:
    return np.empty((0, *dtype.shape), dtype.base.newbyteorder("="))


def _read_header(file: BinaryIO, path: Path) -> tuple[np.dtype, int]:
    """Type and number of the rows; the file stands at the first of them."""
    version = file.read(2)[:1]
    width = 2 if version == b"\x01" else 4
    length = int.from_bytes(file.read(width), "little")
    if version not in (b"\x01", b"\x02", b"\x03"):
        raise InputError(f"{path} is an .npy file of an unknown version: save it anew.")
    if length > MAX_HEADER:
        raise InputError(
            f"The header of {path} claims {length} bytes, a .cs file has some thousand: it is damaged, copy it again."
        )
    raw = file.read(length)
    try:
        text = raw.decode("utf-8" if version == b"\x03" else "latin1")
        if len(raw) < length or not _HEADER.fullmatch(_QUOTED.sub("", text)):
            raise ValueError
        header = ast.literal_eval(text.strip())
        descr, shape = header["descr"], tuple(header["shape"])
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        raise InputError(f"The header of {path} cannot be read: it is damaged.") from None
    if isinstance(descr, str):
        raise InputError(f"{path} has no named fields: it is an .npy file, but not of CryoSPARC.")
    if len(shape) != 1 or not isinstance(shape[0], int):
        raise InputError(
            f"{path} is an array of shape {shape}: a .cs file of CryoSPARC has one row per particle."
        )
    return _checked_dtype(descr, path), shape[0]


def _checked_dtype(descr: Any, path: Path) -> np.dtype:
    """The type of a row, if it consists of numbers and text."""
    try:
        fields = [tuple(field) for field in descr]
        if not all(_TYPE.fullmatch(kind) for _, kind, *_ in fields):
            raise ValueError
        dtype = _dtype(fields)
    except (TypeError, ValueError, OverflowError, MemoryError, SyntaxError):
        raise InputError(f"The fields of {path} cannot be understood: it is damaged.") from None
    for name in dtype.names or ():
        kind = dtype[name].base.kind
        if kind == "O":
            raise InputError(
                f"Field {name} of {path} holds Python objects, which could run programs when read: save it from "
                "CryoSPARC again, or with cryosparc-tools."
            )
        if not is_plain(dtype[name].base):
            raise InputError(
                f"Field {name} of {path} is of type {dtype[name].base.str}: a .cs file holds numbers and text only."
            )
        if not _is_name(name):
            raise InputError(f"Field {name!r} of {path} has no name in plain letters: rename it.")
    if not dtype.names or not 0 < dtype.itemsize <= MAX_ROW:
        raise InputError(
            f"A row of {path} claims {dtype.itemsize} bytes, that of a .cs file has some hundred: it is damaged."
        )
    return dtype


def _dtype(fields: list[tuple]) -> np.dtype:
    """The type of a row; void without a name is room between fields, which NumPy leaves where some were selected."""
    types = [np.dtype([("", *kind)])[0] for _, *kind in fields]
    ends = np.cumsum([kind.itemsize for kind in types], dtype=object).tolist()
    named = [i for i, kind in enumerate(types) if fields[i][0] or kind.kind != "V"]
    return np.dtype(
        {
            "names": [fields[i][0] for i in named],
            "formats": [types[i] for i in named],
            "offsets": [ends[i] - types[i].itemsize for i in named],
            "itemsize": ends[-1] if ends else 0,
        }
    )


def is_plain(dtype: np.dtype) -> bool:
    """Whether values are text or numbers of a type that every machine has, which 80 bit are not."""
    return dtype.kind in "biuS" or (dtype.kind in "fc" and dtype.newbyteorder("=").char in "efdFD")


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and " " not in name


def _check_stream(file: BinaryIO, path: Path) -> None:
    """Refuse what would ask for absurd memory, before any is given; the file stands behind the magic."""
    length = int.from_bytes(file.read(4), "little")
    raw = file.read(min(length, MAX_HEADER))
    try:
        if len(raw) < length:
            raise ValueError
        header = json.loads(raw)
        n, fields = header["length"], [tuple(field) for field in header["dtype"]]
        # text is counted by its 8 byte references
        plain = [(name, "S8" if "O" in kind else kind, *map(tuple, s)) for name, kind, *s in fields]
        whole = isinstance(n, int) and 0 <= 8 * n <= os.stat(path).st_size
        if not whole:  # uid is never compressed
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"The header of {path} cannot be read: it is damaged.") from None
    _checked_dtype(plain, path)


def _read_stream(path: Path) -> dict[str, np.ndarray]:
    try:
        from cryosparc.dataset import Dataset  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"{path} is a compressed CSDAT file: install what reads it with pip install cryosparc-tools, or save it "
            "from CryoSPARC in the NumPy format."
        ) from None
    try:
        dataset = Dataset.load(str(path))
        fields = {name: np.array(dataset[name]) for name in dataset.fields()}
    except Exception as error:  # the library's own, of many kinds
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged."
        ) from None
    return {
        name: np.array([str(text).encode() for text in x.tolist()], dtype=bytes)
        if x.dtype.kind in "OU"
        else x
        for name, x in fields.items()
    }
