"""Particles that maps were not made of: the same poses however often the search is stopped, and whoever searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cryotorch.jobs.initial_map import others
from cryotorch.jobs.initial_map.others import OthersPart, find_others
from cryotorch.refinement.class_search import Found
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team


def same(one: Found, other: Found) -> bool:
    return all(torch.equal(getattr(one, name), values) for name, values in vars(other).items())


def test_stopped_after_any_block(begun: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50 particles in blocks of 16; damaged images that were read before are still known."""
    monkeypatch.setattr(others, "BLOCK", 16)
    monkeypatch.setattr(others, "SAVED_EVERY", -1.0)
    inputs = begun.inputs
    result, values = begun.made.result, {}
    whole, _ = find_others(inputs, result, Team(), Kept())
    assert same(whole, begun.made.found)

    def stop(name: str, value: object) -> None:
        raise KeyboardInterrupt

    for count in (16, 32, 48, 50):
        kept = Kept(values, changed=stop)
        with pytest.raises(KeyboardInterrupt):
            find_others(inputs, result, Team(), kept)
        values = kept.values
        values["others"]["damaged"]["an image"] = "blank"
        assert len(values["others"]["found"]["share"]) == count
    found, damaged = find_others(inputs, result, Team(), Kept(values, changed=stop))
    assert same(found, whole) and damaged["an image"] == "blank"


def test_two_processes_search_their_parts(begun: Any, teams: Callable) -> None:
    pair = teams(2)
    OthersPart(begun.inputs, pair[1])
    found, _ = find_others(begun.inputs, begun.made.result, pair[0], Kept())
    close = (found.rotation - begun.made.found.rotation).abs().amax((1, 2)) < 1e-3
    assert float(close.float().mean()) > 0.98 and len(close) == 200
