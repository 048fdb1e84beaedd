"""Sets of True voxels that hang together by faces."""

from __future__ import annotations

from itertools import accumulate

import scipy.ndimage
import torch
from torch import Tensor

JUMPS = 8  # steps along targets between two looks at whether all have arrived


def piece_numbers(binary: Tensor) -> Tensor:
    """For each True voxel of ``binary`` (any shape), in order, (n,) int64: a number that its piece alone has."""
    if binary.is_cuda:
        return joined(binary)
    labels, _ = scipy.ndimage.label(binary.numpy())  # pyright: ignore[reportGeneralTypeIssues]
    return torch.from_numpy(labels)[binary].long() - 1


def joined(binary: Tensor) -> Tensor:
    """``piece_numbers`` (n,) by tensor operations: the number of a piece is that of its first voxel.

    Every voxel points at an earlier one of its piece, at first at itself. In each round the target of a voxel comes to
    point at an earlier target of one of its neighbours, then all follow their targets to the end: at least half of the pieces
    that are not whole yet are joined to others (Shiloach and Vishkin 1982, doi:10.1016/0196-6774(82)90008-6). The host looks
    once for the voxels, and then after every ``JUMPS`` steps.
    """
    filled = binary.flatten()
    voxel = filled.nonzero()[:, 0]
    own = torch.arange(len(voxel), device=binary.device)
    if not len(voxel):
        return own
    place = torch.zeros_like(filled, dtype=torch.int64).index_copy_(0, voxel, own)
    after = []  # a True neighbour of each voxel along each axis, itself where there is none
    for size, stride in zip(binary.shape, contiguous_strides(binary.shape), strict=True):
        beside = (voxel + stride).clamp_(max=len(filled) - 1)
        there = (voxel // stride % size < size - 1) & filled[beside]
        after.append(torch.where(there, place[beside], own))
    pairs = torch.stack([torch.cat(after), own.repeat(binary.dim())])
    target, unsettled, apart = own, False, True
    while unsettled or apart:
        if not unsettled:
            target = target.scatter_reduce(0, pairs.amax(0), pairs.amin(0), "amin")
        for _ in range(JUMPS):
            before, target = target, target[target]
        joint = target[pairs]
        states = torch.stack([(before != target).any(), (joint[0] != joint[1]).any()])
        unsettled, apart = states.tolist()
        if not unsettled:
            pairs = joint
    return target


def contiguous_strides(shape: torch.Size) -> list[int]:
    """How far apart neighbours along each axis lie in memory."""
    return [*accumulate(reversed(shape[1:]), lambda a, b: a * b, initial=1)][::-1]
