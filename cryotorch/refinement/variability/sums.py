"""The M-step: mean and components together, a small linear system at every Fourier voxel.

    sum over images of <z_j z_k> c^2 w V_k = sum of <z_j> c w y,    j, k = 0 .. q - 1

What images add lies in the accumulators of ``ops.fourier.slices``, which hold a complex number and a weight: the numerator of map j
goes with the weight of (j, j), and the other pairs of maps two by two, the first as the real part.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import backproject_terms
from cryotorch.ops.fourier.reconstruct import collect
from cryotorch.ops.fourier.slices import accumulator, grid_to_volume, insert_slices_
from cryotorch.ops.fourier.transforms import half_plane, shell_count, shell_sum
from cryotorch.ops.pose.scores import Observation

PADDING = 2  # of the grid that images are inserted into
FLOOR = 1e-3  # of a shell's mean weight, that no voxel has less than
AT_ONCE = 2**18  # voxels that are solved together


class LatentSums:
    """What images add to the normal equations of q maps, up to ``limit`` Fourier pixels."""

    def __init__(self, box: int, q: int, limit: float, device: torch.device) -> None:
        self.box, self.q, self.limit = box, q, limit
        self.pairs = list(combinations(range(q), 2))
        count = q + -(-len(self.pairs) // 2)
        self.sums = [accumulator(box, PADDING, device) for _ in range(count)]

    def insert(
        self, images: Observation, rotation: Tensor, shift_px: Tensor, mean: Tensor, second: Tensor
    ) -> None:
        """Add images at rotation (b, 3, 3) and shift_px (b, 2), with <z> = ``mean`` (b, q) and <z z^T> = ``second`` (b, q, q)."""
        one = torch.ones_like(shift_px[:, 0])
        terms = images.spectrum, shift_px, images.gain, images.precision, one, self.box
        numerator, weight = backproject_terms(*terms)
        frequency = half_plane(self.box, rotation.device).frequency[: weight.shape[1]]
        mean, second = mean.to(weight), second.to(weight)
        for j, into in enumerate(self.sums[: self.q]):
            values = numerator * mean[:, j, None], weight * second[:, j, j, None]
            insert_slices_(into, *values, rotation, frequency)
        for into, two in zip(self.sums[self.q :], self._by_two(), strict=True):
            shares = [weight * second[:, j, k, None] for j, k in two]
            value = torch.complex(shares[0], torch.zeros_like(weight))
            insert_slices_(into, value, shares[-1], rotation, frequency)

    def solve(self, prior: Tensor) -> tuple[Tensor, Tensor]:
        """The maps (q, d, d, d), and the mean weights (q, s) of their shells; ``prior`` (q, s) 1 / tau^2 of the coefficients of a box without padding.

        The sums are spent afterwards.
        """
        made = [collect(into, self.limit, forget=True) for into in self.sums]
        self.sums = []
        first, padded = made[0], PADDING * self.box
        inside = torch.nonzero(first.weight.flatten())[:, 0]
        shell = first.shells().flatten()[inside].long()
        of_shell = shell_count(padded, first.weight.device)
        means = [shell_sum(one.weight, padded) / of_shell for one in made[: self.q]]
        mean = torch.stack(means)[:, ::PADDING]
        added = (prior.to(mean) / PADDING**3 + FLOOR * mean).clamp_min(1e-30).float()
        solution = first.numerator.new_zeros(self.q, first.numerator.numel())
        for some, at in zip(inside.split(AT_ONCE), shell.split(AT_ONCE), strict=True):
            matrix = torch.zeros(len(some), self.q, self.q, device=some.device)
            right = torch.empty(len(some), self.q, 2, device=some.device)
            for j, one in enumerate(made[: self.q]):
                matrix[:, j, j] = one.weight.flatten()[some] + added[j][at]
                right[:, j] = torch.view_as_real(one.numerator.flatten()[some])
            for one, two in zip(made[self.q :], self._by_two(), strict=True):
                shares = [one.numerator.real, one.weight][2 - len(two) :]
                for (j, k), share in zip(two, shares, strict=True):
                    matrix[:, j, k] = matrix[:, k, j] = share.flatten()[some]
            found = torch.linalg.solve(matrix.double(), right.double()).float()
            solution[:, some] = torch.view_as_complex(found.transpose(0, 1).contiguous())
        shape, device = first.numerator.shape, first.weight.device
        maps = [
            grid_to_volume(partial(_lines, one.view(shape)), self.box, padded, device)
            for one in solution
        ]
        return torch.stack(maps), mean * PADDING**3

    def _by_two(self) -> list[list[tuple[int, int]]]:
        return [self.pairs[i : i + 2] for i in range(0, len(self.pairs), 2)]


def _lines(transform: Tensor, y: slice) -> Tensor:
    return transform[:, y]
