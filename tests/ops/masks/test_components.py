"""Pieces by tensor operations are SciPy's, whatever winds through the box."""

from __future__ import annotations

import pytest
import scipy.ndimage
import torch

from cryotorch.ops.masks.components import joined, piece_numbers


def canonical(numbers: torch.Tensor) -> torch.Tensor:
    """Pieces numbered in the order in which they are met."""
    _, inverse = torch.unique(numbers, return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(inverse))
    first.scatter_reduce_(0, inverse, torch.arange(len(inverse)), "amin")
    return first[inverse]


def assert_scipys(binary: torch.Tensor, pieces: int | None = None) -> None:
    labels, n = scipy.ndimage.label(binary.numpy())
    expected = canonical(torch.from_numpy(labels)[binary])
    assert pieces is None or n == pieces
    assert torch.equal(joined(binary), expected)  # the first voxel's number
    assert torch.equal(canonical(piece_numbers(binary)), expected)


@pytest.mark.parametrize("shape", [(20, 20, 20), (1, 31, 17), (60, 60)])
@pytest.mark.parametrize("filled", [0.1, 0.32, 0.6])
def test_random_voxels(shape: tuple[int, ...], filled: float) -> None:
    """0.32 is where the pieces of a cubic lattice become endless and most ragged."""
    draw = torch.Generator().manual_seed(len(shape))
    assert_scipys(torch.rand(shape, generator=draw) < filled)


def test_a_long_winding_path_is_one_piece() -> None:
    path = torch.zeros(41, 41, dtype=torch.bool)
    path[::2] = True
    path[1::4, -1] = path[3::4, 0] = True
    assert_scipys(path, 1)
    path[20, 20] = False
    assert_scipys(path, 2)


def test_touching_at_an_edge_is_not_hanging_together() -> None:
    assert_scipys(torch.tensor([[[True, False], [False, True]]]), 2)


def test_numbers_count_from_zero() -> None:
    """As many pieces as voxels: sizes are summed in an array of one place for each voxel."""
    apart = torch.zeros(4, 4, 4, dtype=torch.bool)
    apart[0, 0, 0] = apart[2, 2, 2] = apart[0, 2, 0] = True
    assert piece_numbers(apart).tolist() == joined(apart).tolist() == [0, 1, 2]


def test_nothing() -> None:
    assert len(joined(torch.zeros(3, 3, 3, dtype=torch.bool))) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pieces_agree_on_cuda() -> None:
    binary = torch.rand(40, 40, 40, generator=torch.Generator().manual_seed(5)) < 0.32
    assert torch.equal(piece_numbers(binary.cuda()).cpu(), joined(binary))
