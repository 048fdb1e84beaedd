"""Whether images ask for several maps: what those that are in no map make of them, beside one map of any strength.

Images of one and the same map differ in contrast, and some show nothing: classes then have the map at different strengths. So each image is
compared at the scale that suits it best, and the one map is tried as every class has it: with the amplitude of the class in each shell. It is
the map of all images, or that of any class, whichever explains the images best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.fourier.transforms import shell_sum

MIN_LEAD = 5.0  # standard errors by which unseen images must prefer several maps to one


@dataclass(frozen=True)
class Verdict:
    """What h unseen images say.

    Attributes:
        gain: mean logarithm of the likelihood under the classes over that under one map.
        lead: that in standard errors; images: their number.
    """

    gain: float
    lead: float
    images: int

    @property
    def seen(self) -> bool:
        """Whether more than one state is seen."""
        return self.lead > MIN_LEAD


def verdict(classes: Tensor, one_map: Tensor, log_share: Tensor, image: Tensor) -> Verdict:
    """Compare log-likelihoods of unseen rows under the classes (n, k) with those under one map (n, k), as strong as it is in each class.

    log_share (k,) of the classes; image (n,): rows of one image count as one.
    """
    several, one = ((both.double() + log_share).logsumexp(1) for both in (classes, one_map))
    _, number = image.unique(return_inverse=True)
    count = int(number.max()) + 1
    difference = torch.zeros(count, dtype=torch.float64, device=image.device)
    difference.index_add_(0, number, several - one)
    error = float(difference.std()) / math.sqrt(count) if count > 1 else math.inf
    mean = float(difference.mean())
    return Verdict(mean, mean / max(error, 1e-12), count)


def one_shape(classes: Tensor, pooled: Tensor) -> Tensor:
    """One map (d, d, d) with the amplitude that it has in each class (k, d, d, d) in each shell: (k, d, d, d)."""
    box = pooled.shape[-1]
    one = torch.fft.rfftn(pooled)
    own = shell_sum((one.real**2 + one.imag**2), box).clamp_min(1e-30)
    made = []
    for volume in classes:
        other = torch.fft.rfftn(volume)
        cross = shell_sum(one.real * other.real + one.imag * other.imag, box)
        made.append(filter_shells(pooled, (cross / own).float()))
    return torch.stack(made)
