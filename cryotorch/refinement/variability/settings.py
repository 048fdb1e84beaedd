"""What the search for components is told, in pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cryotorch.refinement.settings import ImageGrid


@dataclass(frozen=True)
class VariabilitySettings:
    """How to look for components.

    Attributes:
        grid: of the images; mask: (d, d, d) that components are kept in.
        n_components: k.
        limit: the finest detail that is compared, Fourier pixels; lowest: components have nothing below it, 0 = no bound.
        iterations: of EM; seed: of the random beginning; at_once: images that are compared together.
    """

    grid: ImageGrid
    mask: Tensor
    n_components: int
    limit: float
    lowest: float
    iterations: int
    seed: int
    at_once: int
