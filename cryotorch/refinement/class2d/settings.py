"""What the algorithm of 2D classification is told, in pixels and radians."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cryotorch.refinement.settings import ImageGrid


@dataclass(frozen=True)
class ClassSettings:
    """How to classify.

    Attributes:
        grid: of the images; radius: of the mask on the averages, pixels.
        n_classes: k.
        first_limit, last_limit: what images and averages are compared up to at the beginning and in the end, Fourier pixels.
        shared_limit: up to here both half sets see the same averages, Fourier pixels; agreement up to there is no resolution.
        step: between turns in the plane, radians; None = from limit and radius. extent: of the shifts, pixels.
        batch: images of an iteration; iterations: their number; passes: over all images, after them.
        recentre: whether averages are kept in the middle. seed: of the random beginning. at_once: images that are compared together.
    """

    grid: ImageGrid
    radius: float
    n_classes: int
    first_limit: float
    last_limit: float
    shared_limit: float
    step: float | None
    extent: float
    batch: int
    iterations: int
    passes: int
    recentre: bool
    seed: int
    at_once: int = 256

    def angles(self, limit: float) -> int:
        """Turns in half a circle: at the edge of the mask 0.7 wave lengths of the limit apart, or as told."""
        step = self.step or 0.7 * self.grid.box / (limit * self.radius)
        return max(4, math.ceil(math.pi / step - 1e-6))
