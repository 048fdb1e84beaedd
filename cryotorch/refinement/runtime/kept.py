"""What a run has made so far, by name: results of stages that one which was stopped need not make again."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from cryotorch.errors import InputError

T = TypeVar("T")


class Kept:
    """Results of stages, held as the tensors, numbers, lists and mappings of a checkpoint.

    Args:
        values: of a run that goes on, as ``values`` was.
        device: where tensors are wanted.
        changed: hears the name and the result that was put.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        changed: Callable[[str, Any], None] = lambda name, value: None,
    ) -> None:
        self.values, self.device, self.changed = dict(values or {}), device, changed

    def put(self, name: str, value: Any) -> None:
        """Keep a result, in the place of one of this name."""
        self.values[name] = plain(value)
        self.changed(name, value)

    def find(self, name: str, kind: type[T]) -> T | None:
        """The result of this name, None where there is none; raises InputError if it is of another kind."""
        if name not in self.values:
            return None
        return rebuilt(kind, self.values[name], self.device, name)

    def once(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        """The result of this name; where there is none yet, what ``make`` gives, of which nobody hears."""
        if name not in self.values:
            self.values[name] = plain(make())
        return rebuilt(kind, self.values[name], self.device, name)

    def drop(self, name: str) -> None:
        """Keep it no longer."""
        self.values.pop(name, None)


def plain(value: Any) -> Any:
    """A result as copies on the CPU, with mappings in the place of dataclasses."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def rebuilt(kind: Any, value: Any, device: torch.device | str, name: str) -> Any:
    """The inverse of ``plain`` for a type: a dataclass, Tensor, number, text, list, mapping, or one of these or None.

    Raises:
        InputError: the value, of this ``name``, is none of that type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (kind,) = (one for one in inner if one is not type(None))
        return rebuilt(kind, value, device, name)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        _require(isinstance(value, Mapping) and value.keys() == hints.keys(), name)
        return kind(**{n: rebuilt(h, value[n], device, f"{name}.{n}") for n, h in hints.items()})
    if origin is list:
        _require(isinstance(value, list), name)
        return [rebuilt(inner[0], one, device, name) for one in value]
    if origin is dict:
        _require(isinstance(value, Mapping) and all(isinstance(key, str) for key in value), name)
        return {key: rebuilt(inner[1], one, device, name) for key, one in value.items()}
    _require(isinstance(value, (int, float) if kind is float else kind), name)
    return value.to(device) if isinstance(value, Tensor) else value


def _require(good: bool, name: str) -> None:
    if not good:
        raise InputError(f"the checkpoint cannot be used: {name} is not what it was")
