"""What a computation noticed, as a value: a code, and the numbers and names that belong to it. Reports put it into words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Union

Value = Union[str, float, int, bool, None, "Finding", tuple["Finding", ...]]


@dataclass(frozen=True, init=False)
class Finding:
    """Something that was noticed: ``Finding("views_uneven", unseen=0.3)``; ``report.sentences`` says it.

    Attributes:
        code: what it is.
        pairs: names and values; numbers in Å, degrees or as a part of 1. A finding may hold others, as reasons or as what to do.
        serious: whether the user must look at it; of a ``remark``, which is only worth knowing, False.
    """

    code: str
    pairs: tuple[tuple[str, Value], ...]
    serious: bool

    def __init__(self, code: str, serious: bool = True, /, **values: Value) -> None:
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "pairs", tuple(values.items()))
        object.__setattr__(self, "serious", serious)

    @property
    def values(self) -> dict[str, Value]:
        """Name -> value."""
        return dict(self.pairs)

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def plus(self, **more: Value) -> Finding:
        """The same with more values, or others."""
        return Finding(self.code, self.serious, **{**self.values, **more})


def remark(code: str, /, **values: Value) -> Finding:
    """A finding that is only worth knowing."""
    return Finding(code, False, **values)


def codes(findings: Iterable[Finding]) -> list[str]:
    """Their codes, in order."""
    return [finding.code for finding in findings]
