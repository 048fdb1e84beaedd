"""Sets of True voxels that hang together by faces."""

from __future__ import annotations

import scipy.ndimage
import torch
from torch import Tensor


def piece_numbers(binary: Tensor) -> Tensor:
    """For each True voxel of ``binary`` (any shape), in order, (n,) int64: a number that its piece alone has."""
    if binary.is_cuda:
        return joined(binary)
    labels, _ = scipy.ndimage.label(binary.numpy())  # pyright: ignore[reportGeneralTypeIssues]
    return torch.from_numpy(labels)[binary].long()


def joined(binary: Tensor) -> Tensor:
    """``piece_numbers`` (n,) by tensor operations: the number of a piece is that of its first voxel.

    Every voxel points at an earlier one of its piece, at first at itself. In each round the target of a voxel comes to
    point at an earlier target of one of its neighbours, then all follow their targets to the end: at least half of the pieces
    that are not whole yet are joined to others (Shiloach and Vishkin 1982, doi:10.1016/0196-6774(82)90008-6).
    """
    place = binary.flatten().cumsum(0).sub_(1).view(binary.shape)
    pairs = []
    for axis, size in enumerate(binary.shape):
        both = binary.narrow(axis, 0, size - 1) & binary.narrow(axis, 1, size - 1)
        pairs.append(torch.stack([place.narrow(axis, i, size - 1)[both] for i in (0, 1)]))
    pairs = torch.cat(pairs, 1)
    target = torch.arange(int(binary.count_nonzero()), device=binary.device)
    while pairs.shape[1]:
        target.scatter_reduce_(0, pairs.amax(0), pairs.amin(0), "amin")
        further = target[target]
        while not torch.equal(further, target):
            target, further = further, further[further]
        pairs = target[pairs]
        pairs = pairs[:, pairs[0] != pairs[1]]
    return target
