"""Small tensors between the host and a device, without waiting for it where that can be."""

from __future__ import annotations

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
