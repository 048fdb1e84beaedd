"""Results of stages as a checkpoint holds them, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.refinement.runtime.kept import Kept, plain, rebuilt


@dataclass(frozen=True)
class Inner:
    values: Tensor
    mean: float


@dataclass(frozen=True)
class Outer:
    parts: list[Inner]
    named: dict[str, str]
    count: int
    maybe: Inner | None = None


def outer(maybe: Inner | None = None) -> Outer:
    inner = Inner(torch.arange(4.0), math.nan)
    return Outer([inner, Inner(torch.zeros(2, dtype=torch.int64), 2)], {"a": "b"}, 3, maybe)


@pytest.mark.parametrize("maybe", [None, Inner(torch.ones(1), 0.5)])
def test_there_and_back(maybe: Inner | None) -> None:
    given = outer(maybe)
    values = plain(given)
    assert set(map(type, values.values())) <= {list, dict, int, type(None)}
    back = rebuilt(Outer, values, "cpu", "outer")
    assert type(back.parts[0]) is Inner and torch.equal(back.parts[0].values, torch.arange(4.0))
    assert math.isnan(back.parts[0].mean) and (back.named, back.count) == ({"a": "b"}, 3)
    assert (back.maybe is None) == (maybe is None)


def test_what_is_kept_does_not_change_with_what_was_given() -> None:
    values = torch.zeros(3)
    heard: list[str] = []
    kept = Kept(changed=lambda name, value: heard.append(name))
    kept.put("zeros", Inner(values, 0.0))
    values += 1
    found = kept.find("zeros", Inner)
    assert found is not None and float(found.values.sum()) == 0
    assert kept.find("ones", Inner) is None and heard == ["zeros"]


def _without(name: str) -> dict[str, Any]:
    values = plain(outer())
    del values[name]
    return values


@pytest.mark.parametrize(
    "values",
    [
        3,
        _without("count"),
        plain(outer()) | {"more": 1},
        plain(outer()) | {"count": "3"},
        plain(outer()) | {"named": {"a": 1}},
        plain(outer()) | {"named": {1: "a"}},
        plain(outer()) | {"parts": [{"values": [1.0], "mean": 1.0}]},
        plain(outer()) | {"parts": {}},
        plain(outer()) | {"maybe": 4},
    ],
    ids=str,
)
def test_what_is_something_else_is_refused(values: Any) -> None:
    with pytest.raises(
        InputError, match=r"the checkpoint cannot be used: outer.* is not what it was"
    ):
        Kept({"outer": values}).find("outer", Outer)
