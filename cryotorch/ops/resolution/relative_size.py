"""By which factor one map is larger than another of the same particle: a pixel size that is wrong shows in it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.resolution.fsc import shell_correlation

FACTOR_STEP = 0.01  # from one factor that is tried to the next
MAX_STEPS = 10  # steps to either side


class Sizes(NamedTuple):
    """How maps agree at their own size, and best.

    Attributes:
        factor: the first map is so many times as large as the second.
        as_is, best: (d//2 + 1,) their correlation in Fourier shells with the first map as it is, and made smaller by the factor.
    """

    factor: float
    as_is: Tensor
    best: Tensor


def relative_size(volume: Tensor, other: Tensor, mask: Tensor, last: int) -> Sizes:
    """The factor by which a map (d, d, d) is larger than another, from 0.9 to 1.1, inside a mask (d, d, d).

    It is the one with the largest sum of the Fourier shell correlation over the shells 1 to ``last``: finer shells count as
    much as the coarse ones, which agree at any size.
    """
    seen = other * mask

    def curve(step: int) -> Tensor:
        factor = (1 + FACTOR_STEP) ** step
        small = resample_volume(volume, 1.0, len(volume), factor) if step else volume
        return shell_correlation(small * mask, seen)

    curves = {step: curve(step) for step in range(-MAX_STEPS, MAX_STEPS + 1)}
    step = max(curves, key=lambda step: float(curves[step][1 : last + 1].sum()))
    return Sizes((1 + FACTOR_STEP) ** step, curves[0], curves[step])
