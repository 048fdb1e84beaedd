"""The device that a job computes on."""

from __future__ import annotations

import torch

from cryotorch.errors import InputError


def pick_device(name: str) -> torch.device:
    """``auto`` (a CUDA device where there is one), ``cpu`` or ``cuda``."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    require_cuda("device", name)
    return torch.device(name)


def require_cuda(name: str, value: str) -> None:
    """Raises InputError for a parameter that asks for a CUDA device where there is none."""
    if value in ("cuda", "gpu") and not torch.cuda.is_available():
        raise InputError(
            f"{name}={value} cannot be used: torch finds no CUDA device, use {name}=cpu"
        )
