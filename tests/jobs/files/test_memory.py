"""Boxes that cannot fit are refused before memory is asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cryotorch.errors import InputError, out_of_memory
from cryotorch.jobs.files import memory
from cryotorch.jobs.files.memory import (
    BYTES_PER_VOXEL,
    NEEDS,
    memory_needed,
    memory_of,
    require_room,
    require_search_room,
    sums_memory,
)
from cryotorch.ops.fourier.slices import accumulator
from cryotorch.refinement.settings import EMSettings, MaskSettings, ScheduleSettings, SearchSettings
from cryotorch.report.sentences import line

CPU = torch.device("cpu")


def test_the_largest_box_that_fits() -> None:
    box = int((memory_of(CPU) / BYTES_PER_VOXEL) ** (1 / 3))
    require_room(box - 1, CPU, "box_size=1")
    with pytest.raises(InputError, match=rf"box_size=9 cannot be used: maps of {box + 2} voxels"):
        require_room(box + 2, CPU, "box_size=9")


def plan(**search) -> EMSettings:
    return EMSettings(
        box=64,
        pixel_size=3.0,
        group=torch.eye(3)[None],
        search=SearchSettings(**search),
        schedule=ScheduleSettings(first_limit=6, highest_limit=31),
        mask=MaskSettings(),
        split=9.0,
        window=(27.0, 31.0),
    )


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (dict(grid_step=math.radians(1)), "search.grid_step=1 cannot be used"),
        (dict(candidates=100_000), "search.candidates=100000 cannot be used"),
        (dict(coarse_limit=30, grid_step=math.radians(2)), "search.grid_step=2 cannot be used"),
        (dict(shift_extent=32.0), "search.shift_extent=96 cannot be used"),
    ],
)
def test_a_search_that_cannot_fit_says_what_would(search, said, monkeypatch) -> None:
    """What is offered fits, and a step further does not."""
    monkeypatch.setattr(memory, "memory_of", lambda device: 8e9)
    with pytest.raises(InputError, match=said) as caught:
        require_search_room(plan(**search), 256, CPU)
    name, would = list(search)[-1], float(str(caught.value).split()[-3])
    if "coarse_limit" in search:
        name = "grid_step"
    unit = {"grid_step": math.radians(1), "shift_extent": 1 / 3}.get(name, 1.0)
    require_search_room(plan(**{**search, name: would * unit}), 256, CPU)
    further = would - 0.2 if name == "grid_step" else 1.1 * would + 1
    with pytest.raises(InputError):
        require_search_room(plan(**{**search, name: further * unit}), 256, CPU)


def test_a_usual_search_fits(monkeypatch) -> None:
    monkeypatch.setattr(memory, "memory_of", lambda device: 4e9)
    require_search_room(plan(), 256, CPU)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError("Unable to allocate 7.45 TiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_errors_of_full_memory(error: Exception, full: bool) -> None:
    assert out_of_memory(error) == full


def test_this_is_what_an_allocation_of_the_host_says() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.float64)
    assert out_of_memory(caught.value)
    with pytest.raises(MemoryError):
        np.empty(2**52)


@pytest.mark.parametrize("job", NEEDS)
def test_what_is_needed_is_said_and_what_is_missing_warned_of(job: str, monkeypatch) -> None:
    program, each = NEEDS[job]
    need = program + each * 256**3 + 1e9
    monkeypatch.setattr(memory, "memory_of", lambda device: need + 1)
    told = memory_needed(job, 256, CPU, more=1e9)
    assert not told.serious and float(str(told["need"])) == pytest.approx(need / 1e9, rel=0.06)
    assert line(told).startswith("needs about ") and line(told).endswith(" GB of memory")
    monkeypatch.setattr(memory, "memory_of", lambda device: need - 1)
    short = memory_needed(job, 256, CPU, more=1e9)
    assert short.serious and "choose a smaller box" in line(short)
    host = memory_needed(job, 256, torch.device("cuda"))
    assert not host.serious and float(str(host["need"])) == pytest.approx(program / 1e9, rel=0.06)


@pytest.mark.parametrize("padding", [1, 2])
def test_the_memory_of_further_copies_of_the_sums(padding: int, monkeypatch) -> None:
    """What an accumulator of so many threads holds beyond the first copy, to a few per cent."""
    for threads in (1, 3, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        sums = accumulator(40, padding).sums
        assert sums_memory(40, padding) == pytest.approx(sums[1:].nbytes, rel=0.05)
