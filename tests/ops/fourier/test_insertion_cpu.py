"""Compiled insertion against the tensor operations that it stands for."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.fourier import insertion_cpu, slices
from cryotorch.ops.fourier.insertion_cpu import MOST_COPIES
from cryotorch.ops.fourier.slices import (
    accumulator,
    add_slices_,
    dense,
    insert_slices_,
    insert_spread_,
    merge_,
)
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import from_rotation_vector, random_rotations

BOX = 20
STRETCH = torch.tensor([[1.02, 0.01], [0.0, 0.97]]).expand(5, 2, 2)


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("kind", ["shared", "deep", "each", "each and deep"])
def test_insertion(kind, padding, points, threads, draw):
    rotation, frequency = random_rotations(5, draw), points(kind, BOX)
    m = frequency.shape[-2]
    y = torch.randn(5, m, dtype=torch.complex64, generator=draw)
    weight = torch.rand(5, m, generator=draw)
    found, expected = accumulator(BOX, padding), accumulator(BOX, padding)
    assert len(found.sums) == threads
    for _ in range(2):
        insert_slices_(found, y, weight, rotation, frequency)
        add_slices_(expected, y, weight, rotation, frequency)
    assert torch.allclose(merge_(found), merge_(expected), atol=1e-5)
    assert all(float(copy.abs().max()) == 0 for copy in found.sums[1:])


@pytest.mark.parametrize("stretched", [False, True])
@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("degrees", [0.0, 1.0, 40.0])
def test_a_posterior(degrees, padding, stretched, threads, draw, monkeypatch):
    """Poses of an image that meet in one cell of the grid, in some of them, and in none."""
    turns = degrees * torch.pi / 180 * torch.randn(5, 4, 3, generator=draw)
    rotation = torch.stack([from_rotation_vector(t) for t in turns])
    rotation = rotation @ random_rotations(5, draw)[:, None]
    offset = torch.randn(5, 4, 2, generator=draw)
    m = half_plane(BOX).count(8.2)
    y = torch.randn(5, m, dtype=torch.complex64, generator=draw)
    arguments = (
        y,
        torch.rand(5, m, generator=draw),
        rotation,
        offset,
        STRETCH if stretched else None,
    )
    found, expected = accumulator(BOX, padding), accumulator(BOX, padding)
    insert_spread_(found, *arguments)
    monkeypatch.setattr(slices, "is_compiled_for", lambda device: False)
    insert_spread_(expected, *arguments)
    scale = float(expected.sums.abs().max())
    assert scale > 1 and torch.allclose(merge_(found), merge_(expected), atol=1e-5 * scale)


def test_copies_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert len(accumulator(8).sums) == MOST_COPIES


@pytest.mark.parametrize("box", [20, 34])
def test_threads_that_share_a_copy(box, points, threads, draw, monkeypatch):
    """Each adds to planes of its own; what is read is forgotten, and nothing of it too early."""
    rotation, frequency = random_rotations(9, draw), points("shared", box)
    y = torch.randn(9, len(frequency), dtype=torch.complex64, generator=draw)
    weight = torch.rand(9, len(frequency), generator=draw)
    alone = accumulator(box, 2)
    monkeypatch.setattr(insertion_cpu, "COPIES_MEMORY", 0)
    shared = accumulator(box, 2)
    assert len(alone.sums) == threads and len(shared.sums) == 1
    for sums in (alone, shared):
        insert_slices_(sums, y, weight, rotation, frequency)
    for found, expected in zip(dense(shared, forget=True), dense(alone), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
    if shared.pages is not None and box > 30:
        assert float((shared.sums == 0).float().mean()) > 0.9
