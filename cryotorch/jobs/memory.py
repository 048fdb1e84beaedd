"""Whether a map of a given box fits into memory, asked before torch is."""

from __future__ import annotations

import os

import torch

from cryotorch.errors import InputError

# Bytes per voxel that the shortest job on one map takes at its peak, measured; one with segments takes 30.
BYTES_PER_VOXEL = 20


def require_room(box: int, device: torch.device, said: str, each: float = BYTES_PER_VOXEL) -> None:
    """InputError where maps of ``box`` voxels per edge, of ``each`` bytes, cannot fit; ``said`` is the parameter that asks for them."""
    need, there = each * box**3, memory_of(device)
    if need > there:
        raise InputError(
            f"{said} cannot be used: maps of {box} voxels per edge need at least {_gigabytes(need)} GB of memory, and there "
            f"are {_gigabytes(there)}; choose a smaller box or larger pixels"
        )


def memory_of(device: torch.device) -> int:
    """Bytes of memory of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.0f}" if count >= 1e10 else f"{count / 1e9:.2g}"
