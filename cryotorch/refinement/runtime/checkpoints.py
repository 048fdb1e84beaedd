"""Checkpoints on disk: whole or absent, with a checksum of every value inside."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from cryotorch.errors import InputError

CHECKSUM = "checksum"  # the entry beside the values
# How many times the size of its file a checkpoint may have in memory: several names may stand for one tensor. And what it always may.
MAX_GROWTH, FREE_BYTES = 16, 2**24
MAX_VALUES = 2**21  # names, numbers and tensors; a thousand iterations make a hundred thousand


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes beside the final name, then renames; what is read again is what was written, or an error."""

    def save_checkpoint(self, checkpoint: dict, path: Any, storage_options: Any = None) -> None:
        """Raises InputError where the file cannot be written."""
        path = Path(path)
        part = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            super().save_checkpoint(
                {**checkpoint, CHECKSUM: checksum(checkpoint)}, part, storage_options
            )
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException as error:
            with suppress(OSError):  # the folder may be gone
                part.unlink()
            # torch.save tells of a full disk in its own words
            if isinstance(error, OSError) or "PytorchStreamWriter" in str(error):
                reason = getattr(error, "strerror", None) or "is the disk full?"
                raise InputError(
                    f"checkpoint {path} cannot be written ({reason}): mend that, then add resume=true"
                ) from None
            raise

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: Any = None
    ) -> dict:
        """All on the CPU. Raises InputError for a file that is not what was written."""
        return read_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The values of a checkpoint; nothing in it is executed.

    Raises:
        InputError: it cannot be read, or its values are not those that were written.
    """
    try:
        limit = MAX_GROWTH * _stored(path) + FREE_BYTES
        saved = torch.load(path, map_location="cpu", weights_only=True)
        expected = saved.pop(CHECKSUM, None)
        found = None if expected is None else checksum(saved, limit)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"checkpoint {path} cannot be read ({type(error).__name__})") from None
    if found is None:
        raise InputError(f"checkpoint {path} holds no checksum: it is from an older version")
    if found != expected:
        raise InputError(f"checkpoint {path} is damaged: its checksum differs")
    return saved


def _stored(path: str | Path) -> int:
    """Bytes of the file; raises an error where it is to be unpacked, as torch writes none, to what may be any number of bytes."""
    if not os.path.isfile(path):  # a pipe would wait for ever
        raise OSError
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as file:
        parts = file.infolist()
    if sum(part.file_size for part in parts) > size or any(part.compress_type for part in parts):
        raise ValueError
    return size


def checksum(values: Any, limit: float = math.inf) -> str:
    """SHA-256 over names, types, numbers and tensors in their order; the same for what ``torch.load`` makes of them.

    Raises:
        ValueError: values of more than ``limit`` bytes, as a tensor of one number that claims any size, or a list of lists that are one.
    """
    digest = _Digest(limit)
    _add(digest, values)
    return digest.hexdigest()


class _Digest:
    """SHA-256 of a limited number of bytes."""

    def __init__(self, limit: float) -> None:
        self._digest, self._left, self._values = hashlib.sha256(), limit, 0
        self.hexdigest = self._digest.hexdigest

    def update(self, raw: bytes | memoryview) -> None:
        """Further bytes."""
        self.room(len(raw))
        self._left -= len(raw)
        self._values += 1
        self._digest.update(raw)

    def room(self, count: int) -> None:
        """Refuses what would be too much."""
        if count > self._left or (self._values > MAX_VALUES and self._left < math.inf):
            raise ValueError("more than the file holds")


def _add(digest: _Digest, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.room(value.numel() * value.element_size())  # before a copy is made
        plain = value.detach().cpu().contiguous()
        digest.update(f"tensor {plain.dtype} {tuple(plain.shape)} ".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for name, inner in value.items():
            _add(digest, name)
            _add(digest, inner)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)} ".encode())
        for inner in value:
            _add(digest, inner)
    else:
        digest.update(f"{type(value).__name__} {value!r} ".encode("utf-8", "surrogateescape"))
