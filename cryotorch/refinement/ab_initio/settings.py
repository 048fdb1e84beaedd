"""What an ab-initio reconstruction is asked to do, in the algorithm's units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.refinement.settings import ImageGrid

# The angle that resolution r tells apart on a particle of diameter D is 2 r / D; the bank's step is somewhat less, within:
STEP_PER_DETAIL = 1.5
FINEST_STEP, COARSEST_STEP = math.radians(7.5), math.radians(15)
# The soft stage ends at D / 6, or at the resolutions given.
SOFT_ELEMENTS = 6.0


@dataclass(frozen=True)
class AbInitioSettings:
    """An ab-initio reconstruction.

    Attributes:
        grid: of the images; group: (g, 3, 3) point group that the map gets in the end.
        diameter: pixels, of the particle.
        first_limit, last_limit: Fourier pixels.
        n_classes: k; n_starts: random starts, the best of which goes on.
        shift_extent: pixels, radius of the shift search.
        soft_steps: mini-batches of a start; batch: images in each.
        passes: of the narrow stage over the images.
        nonnegative: density below zero is set to zero in the soft stage; recenter: keep the density's centre in the middle.
        seed: of starts, order and orientations.
    """

    grid: ImageGrid
    group: Tensor
    diameter: float
    first_limit: float
    last_limit: float
    n_classes: int = 1
    n_starts: int = 4
    shift_extent: float = 6.0
    soft_steps: int = 50
    batch: int = 300
    passes: int = 6
    nonnegative: bool = True
    recenter: bool = True
    seed: int = 0

    @property
    def soft_limit(self) -> float:
        """Fourier pixels, where the soft stage ends."""
        wanted = SOFT_ELEMENTS * self.grid.box / self.diameter
        return max(self.first_limit, min(wanted, self.last_limit))

    def grid_step(self, limit: float) -> float:
        """Radians between the rotations of the bank at a limit."""
        detail = STEP_PER_DETAIL * self.grid.box / (limit * self.diameter)
        return min(max(detail, FINEST_STEP), COARSEST_STEP)

    def generator(self, *numbers: int) -> torch.Generator:
        """Random numbers of their own for a start."""
        seed = self.seed
        for number in numbers:
            seed = seed * 1_000_003 + number + 1
        return torch.Generator().manual_seed(seed % 2**63)
