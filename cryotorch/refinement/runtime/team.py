"""Several processes at the parts of one task: rank 0 says what is to be done, all do it, rank 0 gets what each has made.

Only rank 0 decides, so that processes whose devices round differently cannot part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Team:
    """One of the processes of a run; by default the only one.

    Attributes:
        rank, world: its number and how many there are.
        tasks: what can be asked for, by name.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world
        self.tasks: dict[str, Callable[..., Any]] = {}

    def ask(self, task: str, *given: Any) -> list[Any]:
        """What each process makes of the same, in their order; on rank 0, while the others ``serve``. Of others it comes on the CPU."""
        if self.world == 1:
            return [self.tasks[task](*given)]
        torch.distributed.broadcast_object_list([(task, on(given, "cpu"))])
        made = self.tasks[task](*given)
        every: list[Any] = [None] * self.world
        torch.distributed.gather_object(None, every)
        return [made, *every[1:]]

    def serve(self) -> None:
        """Do what rank 0 asks for, until it dismisses."""
        while True:
            said: list[Any] = [None]
            torch.distributed.broadcast_object_list(said)
            if said[0] is None:
                return
            task, given = said[0]
            torch.distributed.gather_object(on(self.tasks[task](*given), "cpu"))

    def dismiss(self) -> None:
        """On rank 0: nothing more will be asked for."""
        if self.world > 1:
            torch.distributed.broadcast_object_list([None])

    def sum_(self, tensor: Tensor) -> None:
        """The sum over all processes in the place of each one's tensor, of any shape; within a task."""
        if self.world > 1:
            total = tensor.cpu()
            torch.distributed.all_reduce(total)
            tensor.copy_(total)

    def part(self, n: int, step: int) -> slice:
        """Which of n this process takes: as many whole steps, from the first on, as the others."""
        each = math.ceil(math.ceil(n / step) / self.world) * step
        return slice(min(self.rank * each, n), min((self.rank + 1) * each, n))


def on(value: T, device: torch.device | str) -> T:
    """A value with all tensors in it, also those in dataclasses, lists, tuples and mappings, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)  # pyright: ignore[reportReturnType]
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: on(getattr(value, f.name), device) for f in fields(value) if f.init}
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return {name: on(inner, device) for name, inner in value.items()}  # pyright: ignore[reportReturnType]
    if isinstance(value, list | tuple):
        return type(value)(on(inner, device) for inner in value)  # pyright: ignore[reportCallIssue]
    return value
