"""Files opened for reading with a clear refusal, and files written so that no half of one is ever seen."""

from __future__ import annotations

import bz2
import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cryotorch.errors import InputError


@contextmanager
def open_input(path: str | Path) -> Iterator[BinaryIO]:
    """A file to read as bytes; gzip and bzip2 are recognised by their first bytes and unpacked.

    Raises:
        InputError: missing, unreadable, no regular file, or damaged while it is read.
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
                    yield unpacked
            elif magic == b"BZh":
                with bz2.open(plain) as unpacked:
                    yield unpacked
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
