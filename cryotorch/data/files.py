"""Files opened for reading with a clear refusal, and files written so that no half of one is ever seen."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cryotorch.errors import InputError

# Bytes that a compressed file may always unpack to, and how many times its own size beyond: text shrinks to a fifth of it.
MAX_UNPACKED, MAX_UNPACKED_RATIO = 2**26, 100


class Unpacked(io.RawIOBase):
    """What a compressed file unpacks to, no more than it may: a few megabytes can hold terabytes of zeros.

    Attributes:
        most: bytes that it may unpack to; who knows what is to come may set it.
    """

    def __init__(self, stream: io.BufferedIOBase, path: Path, size: int) -> None:
        self._stream, self._path = stream, path
        self.most, self._seen = max(MAX_UNPACKED, MAX_UNPACKED_RATIO * size), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._seen = self._stream.seek(offset, whence)
        return self._seen

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer; raises InputError where more comes out than such files hold."""
        got = self._stream.readinto(buffer)
        self._seen += got
        if self._seen > self.most:
            raise InputError(
                f"Compressed file {self._path} unpacks to more than {self.most / 1e6:.0f} MB, which no such file does: unpack it yourself "
                "if you trust it."
            )
        return got


@contextmanager
def open_input(path: str | Path) -> Iterator[io.BufferedReader]:
    """A file to read as bytes; gzip and bzip2 are recognised by their first bytes and unpacked.

    Raises:
        InputError: missing, unreadable, no regular file, damaged while it is read, or unpacking to more than it may (``Unpacked``).
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():
            raise OSError(
                "it is a pipe or a device"
            )  # a pipe can wait for ever, a device never end
        with open(path, "rb") as plain:
            magic = plain.read(3)
            plain.seek(0)
            if magic[:2] == b"\x1f\x8b":
                with gzip.open(plain) as unpacked:
                    yield _bounded(unpacked, path)
            elif magic == b"BZh":
                with bz2.open(plain) as unpacked:
                    yield _bounded(unpacked, path)
            else:
                yield plain
    except FileNotFoundError:
        raise InputError(f"File {path} does not exist: check the name.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not a file: name a file in it.") from None
    except (EOFError, zlib.error) as error:
        raise InputError(f"Compressed file {path} is damaged ({error}): copy it again.") from None
    except OSError as error:
        raise InputError(f"File {path} cannot be read ({error}): check it.") from None


def _bounded(stream: io.BufferedIOBase, path: Path) -> io.BufferedReader:
    return io.BufferedReader(Unpacked(stream, path, os.path.getsize(path)), 2**20)


def check_unpacked(path: str | Path) -> None:
    """Raises InputError for a compressed file, meant for another reader, that unpacks to more than it may."""
    with open_input(path) as file:
        while isinstance(file.raw, Unpacked) and file.read(2**22):
            pass


def host_memory() -> int:
    """Bytes of memory that this process may have."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container
        with suppress(OSError, ValueError):  # "max" is no number
            most = min(most, int(Path("/sys/fs/cgroup", name).read_text()))
    return most


@contextmanager
def replace_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write as bytes under a temporary name; it takes its real name when the block ends well.

    A reader sees the old file or the whole new one. When the block fails the temporary file is removed.

    Raises:
        InputError: the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "w+b") as file:
            yield file
            file.flush()
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):  # the folder may be gone
            partial.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise InputError(
                f"{path} cannot be written ({reason}): mend that, or choose another place."
            ) from None
        raise
