"""Whether images ask for several maps: what those that are in no map make of them, beside one map of any strength and size.

Images of one and the same map differ in contrast, and some show nothing: classes then have the map at different strengths. Micrographs differ
in magnification: classes then have it at different sizes. So each image is compared at the scale that suits it best, and the one map is tried
as every class has it: of the size of the class, with its amplitude in each shell. It is the map of all images, or that of any class, whichever
explains the images best. Against the map of one of two states only images of the other gain anything, so that a state in a part p of h images
reaches sqrt(h p / (1 - p)) standard errors at most: a rare one, or few images, are not enough however clear it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.fourier.transforms import shell_sum
from cryotorch.ops.geometry.symmetry import move_volume

MIN_LEAD = 5.0  # standard errors by which unseen images must prefer several maps to one
SIZES = (1.0, 0.97, 0.98, 0.99, 1.01, 1.02, 1.03)  # of the one map that are tried


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
    """One map (d, d, d) as each class (k, d, d, d) has it: the size, and the amplitudes in each shell, that leave least of the class, (k, d, d, d).

    min |V_k - a(s) D V|^2 over sizes D and a(s):   a(s) = sum V_k* D V / sum |D V|^2
    """
    box = pooled.shape[-1]
    transforms = torch.stack([torch.fft.rfftn(volume) for volume in classes])
    best = torch.full((len(classes),), -1.0, dtype=torch.float64, device=pooled.device)
    made = torch.zeros_like(classes)
    for size in SIZES:
        sized = resized(pooled, size)
        one = torch.fft.rfftn(sized)
        own = shell_sum((one.real**2 + one.imag**2), box).clamp_min(1e-30)
        for k, other in enumerate(transforms):
            cross = shell_sum(one.real * other.real + one.imag * other.imag, box)
            explained = (cross.square() / own).sum().double()
            if explained > best[k]:
                best[k], made[k] = explained, filter_shells(sized, (cross / own).float())
    return made


def resized(volume: Tensor, size: float) -> Tensor:
    """The map (d, d, d) about voxel d // 2, larger by a factor near 1."""
    if size == 1:
        return volume
    still = torch.eye(3, device=volume.device), torch.zeros(3, device=volume.device)
    return move_volume(volume, size, *still, volume.shape[-1], 1.0)
