"""Normal equations of k classes from two half sets, and the half maps that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.reconstruct import Sums, collect, solve_lightly
from cryotorch.ops.fourier.slices import Accumulator, accumulator, insert_slices_, merge_
from cryotorch.ops.fourier.symmetrise import symmetrise
from cryotorch.ops.fourier.transforms import half_plane, shell_count, shell_sum

MIN_INSERTED = 0.01  # posterior share of a class below which an image is left out of it
Inserted = list[list[Accumulator]]  # of each half set and class


@dataclass(frozen=True)
class ClassHalves:
    """Half maps before any filter.

    Attributes:
        classes: (2, k, d, d, d) of half sets and classes; pooled: (2, d, d, d) of all classes together.
        joint: (k, d, d, d) of both half sets; joint_pooled: (d, d, d).
        weight: (2, k, d // 2 + 1) of the images of each shell, mean per Fourier voxel of the box.
    """

    classes: Tensor
    pooled: Tensor
    joint: Tensor
    joint_pooled: Tensor
    weight: Tensor


class ClassSums:
    """The sums of two half sets and k classes.

    Args:
        limit: Fourier pixels up to which images are inserted; group: (g, 3, 3) that the maps have.
    """

    def __init__(
        self, box: int, n_classes: int, limit: float, group: Tensor, padding: int = 2
    ) -> None:
        self.box, self.n_classes, self.limit, self.padding = box, n_classes, limit, padding
        self.group = group
        self.sums: list[list[Sums]] = []

    def new(self, device: torch.device) -> Inserted:
        """Empty sums to insert into."""
        one = range(self.n_classes)
        return [[accumulator(self.box, self.padding, device) for _ in one] for _ in (0, 1)]

    def take(self, inserted: Inserted) -> None:
        """What was inserted becomes the sums."""
        self.sums = [[collect(one, self.limit) for one in half] for half in inserted]

    def halves(self) -> ClassHalves:
        """The maps that the sums make. A class without any image is that of all classes."""
        both = [_total(half) for half in self.sums]
        pooled = torch.stack([self._solved(one) for one in both])
        joint_pooled = self._solved(both[0] + both[1])
        weight = torch.stack(
            [torch.stack([weight_per_voxel(one) for one in half]) for half in self.sums]
        )
        empty = weight.sum(-1) <= 1e-6 * weight.sum((0, 1, 2))
        classes = torch.stack(
            [
                torch.stack(
                    [
                        pooled[h] if bool(empty[h, k]) else self._solved(one)
                        for k, one in enumerate(half)
                    ]
                )
                for h, half in enumerate(self.sums)
            ]
        )
        joint = torch.stack(
            [
                joint_pooled if bool(empty[:, k].all()) else self._solved(first + second)
                for k, (first, second) in enumerate(zip(*self.sums, strict=True))
            ]
        )
        weight = weight.float() * len(self.group)
        return ClassHalves(classes, pooled, joint, joint_pooled, weight)

    def _solved(self, sums: Sums) -> Tensor:
        return solve_lightly(symmetrise(sums, self.group) if len(self.group) > 1 else sums)


def weight_per_voxel(sums: Sums) -> Tensor:
    """What images weigh in each shell (d // 2 + 1,) float64, mean per voxel of the unpadded transform.

    The last shell that images reach, from which some of it has leaked, is like the one before.
    """
    padding, box = sums.padding, sums.box
    total = shell_sum(sums.weight, padding * box)
    count = shell_count(padding * box, sums.weight.device)
    both = torch.nn.functional.pad(torch.stack([total, count.to(total)]), (padding, padding))
    ends, place = padding // 2, padding * (1 + torch.arange(box // 2 + 1, device=total.device))
    near = torch.zeros_like(both[:, place])
    for step in range(-ends, ends + 1):
        halved = 0.5 if 2 * ends == padding and abs(step) == ends else 1.0
        near += halved * both[:, place + step]
    weight = near[0] / near[1] * padding**3
    last = min(int(sums.limit), box // 2)
    weight[last] = weight[last - 1]
    return weight


def _total(sums: list[Sums]) -> Sums:
    total = replace(sums[0], numerator=sums[0].numerator.clone(), weight=sums[0].weight.clone())
    for one in sums[1:]:
        total += one
    return total


def insert_classes_(
    inserted: Inserted,
    numerator: Tensor,
    weight: Tensor,
    rotation: Tensor,
    share: Tensor,
    half: Tensor,
) -> None:
    """Add images to the sums of their half set, to each class with its share.

    Args:
        numerator, weight: (b, m) of ``backproject_terms`` at pose rotation (b, 3, 3); share: (b, k); half: (b,).
    """
    frequency = half_plane(inserted[0][0].box, rotation.device).frequency[: weight.shape[1]]
    for h, classes in enumerate(inserted):
        for k, sums in enumerate(classes):
            rows = torch.nonzero((half == h) & (share[:, k] >= MIN_INSERTED))[:, 0]
            if len(rows):
                part = share[rows, k, None]
                values = numerator[rows] * part, weight[rows] * part
                insert_slices_(sums, *values, rotation[rows], frequency)


def merge_all(inserted: Inserted, sum_: Callable[[Tensor], None]) -> None:
    """The copies that threads inserted into become one, and ``sum_`` adds up those of all processes."""
    for half in inserted:
        for one in half:
            sum_(merge_(one))
