"""Checkpoints on disk: whole or absent, with a checksum of every value inside."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from cryotorch.errors import InputError

CHECKSUM = "checksum"  # the entry beside the values


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
        saved = torch.load(path, map_location="cpu", weights_only=True)
        expected = saved.pop(CHECKSUM, None)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"checkpoint {path} cannot be read ({type(error).__name__})") from None
    if expected is None:
        raise InputError(f"checkpoint {path} holds no checksum: it is from an older version")
    if checksum(saved) != expected:
        raise InputError(f"checkpoint {path} is damaged: its checksum differs")
    return saved


def checksum(values: Any) -> str:
    """SHA-256 over names, types, numbers and tensors in their order; the same for what ``torch.load`` makes of them."""
    digest = hashlib.sha256()
    _add(digest, values)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
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
