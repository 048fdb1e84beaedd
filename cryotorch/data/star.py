"""STAR files as RELION writes them: named blocks, each one table, all values read as text.

Nothing is lost between ``read_star`` and ``write_star``: unknown labels and tables, their order and every digit.
Grammar: Hall 1991, doi:10.1021/ci00002a020, in the subset of RELION: one loop or one set of label-value pairs
per block, no multi-line text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cryotorch.data.files import open_input, replace_file
from cryotorch.data.table import Table
from cryotorch.errors import InputError

BYTES_AT_ONCE = 2**19  # lines split together: their values then stay in the processor's cache
ROWS_AT_ONCE = 4096  # rows written together, for the same reason
# Bytes of a column, in which the longest value takes the room of all: more than any file of particles needs.
MAX_COLUMN = 2**31
MAX_LINE = 2**20  # bytes of a line, beyond those that are read ahead
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # editors on Windows put it before everything else
_NO_ROW = (b"_", b"loop_", b"data_")  # "data_2020/mic.mrc" may be one and is looked at closely
_UNSAFE = re.compile(rb"""^(?:$|[#_"']|data_|loop_)|[\s\0]""")  # would not read back as itself
_SUSPECT = np.isin(np.arange(256), list(b"\0#_\"'dl"))  # first letters of those
_TOKEN = re.compile(rb"""(?:"([^"]*)"|'([^']*)')(?=\s|$)|(\S+)""")


class NotStarError(InputError):
    """A file of another kind."""


def read_star(path: str | Path) -> dict[str, Table]:
    """All blocks of a STAR file by name (``data_optics`` is "optics"), in order. It may be gzipped.

    Raises:
        InputError: missing, not a STAR file (NotStarError), a malformed loop or a row with too many or too few values; the line
            is named.
    """
    with open_input(path) as file:
        parser = _Parser(file, Path(path))
        parser.refuse_binary(file.read(1024))  # lines of an image stack can be as long as the file
        file.seek(0)
        blocks = parser.blocks()
    if not blocks:
        raise NotStarError(f"{path} has no data_ block: it is not a STAR file.")
    return blocks


class _Parser:
    """Reads line by line out of ``ahead``; ``place`` counts in it, ``line`` in the file."""

    def __init__(self, file: BinaryIO, path: Path):
        self.file = file
        self.path = path
        self.ahead: list[bytes] = []
        self.place = 0
        self.line = 0

    def fail(self, what: str) -> InputError:
        return InputError(f"Line {self.line} of {self.path}: {what}; correct the STAR file.")

    def refuse_binary(self, raw: bytes) -> None:
        if b"\0" in raw:
            raise NotStarError(f"{self.path} is not a text file, so it is not a STAR file.")

    def next_line(self) -> bytes | None:
        """The next line that is not a comment, stripped; None at the end."""
        while True:
            if self.place == len(self.ahead):
                self.ahead, self.place = self.more(), 0
                if not self.ahead:
                    return None
            raw = self.ahead[self.place]
            self.place += 1
            self.line += 1
            self.refuse_binary(raw)
            text = raw.strip() if self.line > 1 else raw.removeprefix(BYTE_ORDER_MARK).strip()
            if not text.startswith(b"#"):
                return text

    def more(self) -> list[bytes]:
        """The next lines of the file, whole ones."""
        raw = self.file.read(BYTES_AT_ONCE)
        if raw and not raw.endswith(b"\n"):
            rest = self.file.readline(MAX_LINE)
            if len(rest) == MAX_LINE:
                self.line += raw.count(b"\n") + 1
                raise self.fail(f"it has more than {MAX_LINE} characters")
            raw += rest
        return io.BytesIO(raw).readlines()

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
                raise self.fail(f"'{_shown(text)}' stands outside of a data_ block or loop")
        return blocks

    def block(self) -> tuple[Table, bytes | None]:
        """One block and the line after it."""
        text = self.next_line()
        while text == b"":
            text = self.next_line()
        if text is not None and text.split()[0] == b"loop_":
            if text[5:].split(b"#")[0].strip():
                raise self.fail("a loop_ with something behind it")
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
                        f"'{_shown(text)}' is not a label with one value (is loop_ missing?)"
                    )
                self.refuse_open_quotes(values)
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
            if self.place == 1:  # the first of the lines read ahead
                if rows:
                    parts.append(self.arrays(zip(*rows, strict=True)))
                    rows = []
                if plain := self.plain_rows(width):
                    parts.append(plain)
                    text = self.next_line()
                    continue
            values = text.split()
            if b'"' in text or b"'" in text:
                values = _tokens(text)
                self.refuse_open_quotes(values)
            # "data_2020/mic.mrc 1 2" is a row, "data_" alone the next block.
            if text.startswith(b"data_") and not 1 < len(values) == width:
                break
            if len(values) != width:
                raise self.fail(f"{len(values)} values for {width} labels")
            rows.append(values)
            text = self.next_line()
        if rows:
            parts.append(self.arrays(zip(*rows, strict=True)))
        for label, pieces in zip(columns, zip(*parts, strict=True)):  # nothing in an empty loop
            self.check_room(max(piece.itemsize for piece in pieces), sum(map(len, pieces)))
            columns[label] = np.concatenate(pieces)
        return self.table(columns, single=False), text

    def plain_rows(self, width: int) -> list[np.ndarray] | None:
        """Columns of all lines read ahead; None if one of them is anything but a row without quotes and comments.

        The fast way through a long loop: one split for many rows, with a mark at the end of each.
        """
        text = b"".join(self.ahead)
        if any(mark in text for mark in (b'"', b"'", b"#", b"\0")):
            return None
        n = len(self.ahead)
        values = text.replace(b"\n", b" \0 ").split()
        if len(values) != n * (width + 1) or values[width :: width + 1] != [b"\0"] * n:
            return None
        if any(value.startswith(_NO_ROW) for value in values[:: width + 1]):
            return None
        self.line += n - 1
        self.place = n
        return self.arrays(values[column :: width + 1] for column in range(width))

    def refuse_open_quotes(self, values: list[bytes]) -> None:
        """Refuse a value that could not be written again: what follows it would end its quote."""
        for value in values:
            if value.startswith((b'"', b"'")) and b'"' in value and b"'" in value:
                if not _stays(value):
                    raise self.fail(f"'{_shown(value)}' begins with a quote that has no end")

    def arrays(self, columns: Iterable[Sequence[bytes]]) -> list[np.ndarray]:
        arrays = []
        for column in columns:
            self.check_room(len(max(column, key=len)), len(column))
            arrays.append(np.array(column, dtype=bytes))
        return arrays

    def check_room(self, longest: int, rows: int) -> None:
        if longest * rows > MAX_COLUMN:
            raise self.fail(f"a value of {longest} characters in a loop of {rows} rows")

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


def _shown(text: bytes) -> str:
    return text[:40].decode("utf-8", "replace")


def _tokens(text: bytes) -> list[bytes]:
    """Values of a line in which quotes hold values with blanks together."""
    return [double or single or bare for double, single, bare in _TOKEN.findall(text)]


def _stays(value: bytes) -> bool:
    """Whether a value without quotes around it reads back as itself, whatever follows it in its line."""
    return all(_tokens(value + end) == [value, end.strip()] for end in (b' x"', b" x'"))


def write_star(path: str | Path, blocks: dict[str, Table]) -> None:
    """Write blocks in RELION's layout, atomically.

    Raises:
        InputError: not writable, or a label or value that a STAR file cannot hold.
    """
    with replace_file(path) as file:
        for part in star_bytes(path, blocks):
            file.write(part)


def star_bytes(path: str | Path, blocks: dict[str, Table]) -> Iterator[bytes]:
    """What ``write_star`` writes, part by part; InputError as there."""
    for name, table in blocks.items():
        yield b"\n# version 30001\n\n%s\n\n" % _word("data_" + name, path)
        labels = [_word("_" + label, path) for label in table]
        if table.single:
            for label, name in zip(labels, table, strict=True):
                yield b"%s  %s\n" % (label.ljust(41), _values(table, name, 0, path)[0])
        elif labels:
            yield b"loop_ \n"
            for number, label in enumerate(labels, 1):
                yield b"%s #%d \n" % (label, number)
            for start in range(0, table.rows, ROWS_AT_ONCE):
                columns = [_values(table, name, start, path) for name in table]
                rows = map(b" ".join, zip(*columns, strict=True))
                yield b"\n".join(rows) + b"\n"
        yield b"\n"


def _word(name: str, path: str | Path) -> bytes:
    """The first word of a block or its label, which no quotes can hold together."""
    word = name.encode("utf-8", "surrogateescape")
    if word.split() != [word] or b"\0" in word or word == b"_":
        raise InputError(f"{path} cannot hold the name {name!r}: give one without blanks.")
    return word


def _values(table: Table, label: str, start: int, path: str | Path) -> list[bytes]:
    """Values of a column ready to be written: those that would not read back as one value are put between quotes."""
    column = np.ascontiguousarray(table.raw(label, start, start + ROWS_AT_ONCE))
    values = column.tolist()
    letters = column.view(np.uint8).reshape(len(column), column.itemsize)
    # By letters first, which is quick: none is a blank (1 to 32), and zeros only fill the room behind a value.
    blank = letters - np.uint8(1) < 32
    zeros_inside = np.count_nonzero(letters) < sum(map(len, values))
    if not (_SUSPECT[letters[:, 0]].any() or blank.any() or zeros_inside):
        return values
    return [_quoted(value, label, path) for value in values]


def _quoted(value: bytes, label: str, path: str | Path) -> bytes:
    if value and not _UNSAFE.search(value):
        return value
    for quote in (b'"', b"'"):
        if quote not in value and b"\n" not in value and b"\0" not in value:
            return quote + value + quote
    whole = value.split() == [value] and b"\0" not in value
    if whole and value.startswith((b'"', b"'")) and _stays(value):
        return value
    raise InputError(
        f"{path} cannot hold {_shown(value)!r} in _{label}: take out the line ends, or one of both kinds of quotes."
    )
