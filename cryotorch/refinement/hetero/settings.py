"""What classes of maps are made with, in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.refinement.settings import ImageGrid

WHOLE = 0.499  # Fourier pixels beyond a shell's middle where it ends


@dataclass(frozen=True)
class HeteroSettings:
    """Settings of several maps; frequencies in Fourier pixels, up to whole shells.

    Attributes:
        grid: how images are sampled; group: (g, 3, 3) that is imposed on every class; n_classes: k.
        limit: up to which images are used; split: coarser than this the half sets share what they are compared with.
        first_limit: up to which the starts are made.
        n_starts: random starts of a run, of which the one goes on that unseen images prefer.
        n_repeats: independent runs, whose assignments are compared.
        ess: mean effective number of classes of an image at first, as a part of k; 1 / k = as the images say.
        hard: whether the maps in the end are made of each image's most probable class only.
        most_passes: over all images of a run.
        padding: of the insertion grid; seed: of all random draws.
    """

    grid: ImageGrid
    group: Tensor
    n_classes: int
    limit: float
    split: float
    first_limit: float
    n_starts: int = 4
    n_repeats: int = 2
    ess: float = 0.75
    hard: bool = False
    most_passes: int = 30
    padding: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Limits lie between shells: of a shell that is filled in part, nobody knows how much an image has of it."""
        for name in ("limit", "first_limit"):
            object.__setattr__(self, name, math.floor(getattr(self, name)) + WHOLE)

    def generator(self, *stage: int) -> torch.Generator:
        """Random numbers of a stage, which no other stage draws from."""
        seed = self.seed
        for number in stage:
            seed = (seed * 1_000_003 + number + 17) % 2**63
        return torch.Generator().manual_seed(seed)
