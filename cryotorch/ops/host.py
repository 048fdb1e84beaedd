"""Small tensors between the host and a device, without waiting for it where that can be; large ones of the host, given back in parts."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(
    tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None = None
) -> Tensor:
    """A tensor, any shape, on a device, in a type, as ``Tensor.to``; a CUDA device copies it from pinned memory when it comes to it, and the
    host goes on."""
    if tensor.device.type == "cpu" and torch.device(device).type == "cuda":
        return tensor.to(dtype or tensor.dtype).pin_memory().to(device, non_blocking=True)
    return tensor.to(device, dtype or tensor.dtype)


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors, each of any shape, on the CPU: the host waits for a device once, not for each. For small ones, as they are copied
    once more there; what lies on the CPU is not copied."""
    away = [t for t in tensors if t.device.type != "cpu"]
    if not away:
        return list(tensors)
    packed = torch.cat([t.reshape(-1).contiguous().view(torch.uint8) for t in away]).cpu()
    parts = iter(packed.split([t.nbytes for t in away]))
    # a copy of each begins where memory may for its type
    return [
        t if t.device.type == "cpu" else next(parts).clone().view(t.dtype).view(t.shape)
        for t in tensors
    ]


def paged_zeros(shape: Sequence[int]) -> tuple[Tensor, mmap.mmap | None]:
    """Zeros, float32 of any shape, in pages of the system that can be given back one by one; None where it knows no such pages."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return torch.zeros(*shape), None
    pages = mmap.mmap(-1, 4 * math.prod(shape), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=torch.float32).view(*shape), pages


def give_back_(pages: mmap.mmap, start: int, stop: int) -> None:
    """Give the whole pages between two bytes back to the system: what they held is lost."""
    start = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (stop - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0:
        pages.madvise(mmap.MADV_DONTNEED, start, length)
