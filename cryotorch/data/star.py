"""STAR files as RELION writes them: named blocks, each one table, all values kept as text.

Nothing is lost between ``read_star`` and ``write_star``: unknown labels and tables, their order and every digit.
Grammar: Hall 1991, doi:10.1021/ci00002a020, in the subset of RELION: one loop or one set of label-value pairs
per block, no multi-line text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cryotorch.data.files import open_input, replace_file
from cryotorch.data.table import Table
from cryotorch.errors import InputError

ROWS_AT_ONCE = 65536  # rows turned into arrays together: keeps memory near that of the text itself
# Values, one per line, of which one would not read back as itself.
_UNSAFE = re.compile(rb"""^(?:$|[#_"']|data_|loop_)|[ \t\r\f\v]""", re.MULTILINE)
_TOKEN = re.compile(rb"""(?:"([^"]*)"|'([^']*)')(?=\s|$)|(\S+)""")


def read_star(path: str | Path) -> dict[str, Table]:
    """All blocks of a STAR file by name (``data_optics`` is "optics"), in order. It may be gzipped.

    Raises:
        InputError: missing, not a STAR file, a malformed loop or a row with too many or too few values; the line
            is named.
    """
    with open_input(path) as file:
        blocks = _Parser(file, Path(path)).blocks()
    if not blocks:
        raise InputError(f"{path} has no data_ block: it is not a STAR file.")
    return blocks


class _Parser:
    """Reads line by line; ``line`` is the number of the line in hand."""

    def __init__(self, file: BinaryIO, path: Path):
        self.lines = iter(file)
        self.path = path
        self.line = 0

    def fail(self, what: str) -> InputError:
        return InputError(f"Line {self.line} of {self.path}: {what}; correct the STAR file.")

    def next_line(self) -> bytes | None:
        """The next line that is not a comment, stripped; None at the end."""
        for raw in self.lines:
            self.line += 1
            if b"\0" in raw:
                raise InputError(f"{self.path} is not a text file, so it is not a STAR file.")
            text = raw.strip()
            if not text.startswith(b"#"):
                return text
        return None

    def blocks(self) -> dict[str, Table]:
        blocks: dict[str, Table] = {}
        text = self.next_line()
        while text is not None:
            if not text:
                text = self.next_line()
            elif text.startswith(b"data_"):
                name = _decode(text.split()[0][5:])
                if name in blocks:
                    raise self.fail(f"a second block data_{name}")
                blocks[name], text = self.block()
            else:
                raise self.fail(f"'{_decode(text[:40])}' stands outside of a data_ block or loop")
        return blocks

    def block(self) -> tuple[Table, bytes | None]:
        """One block and the line after it."""
        text = self.next_line()
        while text == b"":
            text = self.next_line()
        if text is not None and text.split()[0] == b"loop_":
            return self.loop()
        return self.pairs(text)

    def pairs(self, text: bytes | None) -> tuple[Table, bytes | None]:
        columns: dict[str, np.ndarray] = {}
        while text is not None and (text == b"" or text.startswith(b"_")):
            if text:
                bare = [match[2] for match in _TOKEN.findall(text)]  # "#" between quotes is a value
                values = _tokens(text)
                comment = next((i for i, v in enumerate(bare) if v.startswith(b"#")), len(bare))
                if comment != 2:
                    raise self.fail(
                        f"'{_decode(text[:40])}' is not a label with one value (is loop_ missing?)"
                    )
                self.add_label(columns, values[0], np.array([values[1]], dtype=bytes))
            text = self.next_line()
        return self.table(columns, single=True), text

    def loop(self) -> tuple[Table, bytes | None]:
        columns: dict[str, np.ndarray] = {}
        text = self.next_line()
        while text is not None and (text.startswith(b"_") or text == b""):
            if text:
                self.add_label(columns, text.split()[0], np.array([], dtype=bytes))
            text = self.next_line()
        if not columns:
            raise self.fail("a loop_ without labels")
        parts: list[list[np.ndarray]] = []
        rows: list[list[bytes]] = []
        width = len(columns)
        while text and not text.startswith((b"loop_", b"_")):
            values = _tokens(text) if b'"' in text or b"'" in text else text.split()
            # "data_2020/mic.mrc 1 2" is a row, "data_" alone the next block.
            if text.startswith(b"data_") and not 1 < len(values) == width:
                break
            if len(values) != width:
                raise self.fail(f"{len(values)} values for {width} labels")
            rows.append(values)
            if len(rows) == ROWS_AT_ONCE:
                parts.append(_transpose(rows))
                rows = []
            text = self.next_line()
        if rows:
            parts.append(_transpose(rows))
        if parts:
            columns = dict(
                zip(columns, (np.concatenate(c) for c in zip(*parts, strict=True)), strict=True)
            )
        return self.table(columns, single=False), text

    def add_label(self, columns: dict[str, np.ndarray], label: bytes, values: np.ndarray) -> None:
        name = _decode(label[1:])
        if not name or name in columns:
            raise self.fail(f"label '_{name}' is empty or given twice")
        columns[name] = values

    @staticmethod
    def table(columns: dict[str, np.ndarray], single: bool) -> Table:
        table = Table(single=single)
        table._columns = columns
        return table


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _tokens(text: bytes) -> list[bytes]:
    """Values of a line in which quotes hold values with blanks together."""
    return [double or single or bare for double, single, bare in _TOKEN.findall(text)]


def _transpose(rows: list[list[bytes]]) -> list[np.ndarray]:
    return [np.array(column, dtype=bytes) for column in zip(*rows, strict=True)]


def write_star(path: str | Path, blocks: dict[str, Table]) -> None:
    """Write blocks in RELION's layout, atomically."""
    with replace_file(path) as file:
        for name, table in blocks.items():
            file.write(
                b"\n# version 30001\n\ndata_%s\n\n" % name.encode("utf-8", "surrogateescape")
            )
            labels = [label.encode("utf-8", "surrogateescape") for label in table]
            columns = [_quote(table.raw(label)) for label in table]
            if table.single:
                for label, column in zip(labels, columns, strict=True):
                    file.write(b"_%s  %s\n" % (label.ljust(40), column[0]))
            elif labels:
                file.write(b"loop_ \n")
                for number, label in enumerate(labels, 1):
                    file.write(b"_%s #%d \n" % (label, number))
                file.writelines(b" ".join(row) + b"\n" for row in zip(*columns, strict=True))
            file.write(b"\n")


def _quote(column: np.ndarray) -> list[bytes]:
    """Values ready to be written: those that would not read back as one value are put between quotes."""
    values = column.tolist()
    if not values or not _UNSAFE.search(b"\n".join(values)):
        return values
    return [
        _quote_value(value) if _UNSAFE.search(value) or not value else value for value in values
    ]


def _quote_value(value: bytes) -> bytes:
    if b'"' in value and b"'" in value:
        return value
    return b'"%s"' % value if b'"' not in value else b"'%s'" % value
