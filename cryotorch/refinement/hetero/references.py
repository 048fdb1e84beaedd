"""What the images of a half set are compared with: the map of all classes and what each differs from it, both filtered.

    R_hk = M (G V_h + F g (V_hk - V_h)),      V_h of all classes, V_hk of class k, M a mask and F M a focus mask

G is the Wiener filter of V_h by its FSC. g is the filter of the differences: the best FSC of all classes filters all classes, so that
small ones are not filtered to nothing. Below the split shell V_h and V_hk are those of both half sets, so that class k is the same class in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.hetero.class_sums import ClassHalves

MIN_DEVIATIONS = 2.0  # standard errors of noise: what differences must agree by
# What an image of noise finds of itself over what the mean weight of a shell leads to: weights lie unevenly about that mean, and the last
# shells leak. Measured: 0.82 (150 images in a box of 24) to 0.90. More would drive images out of classes that are theirs.
OWN = 0.85


@dataclass(frozen=True)
class References:
    """Maps to compare images with.

    Attributes:
        volumes: (2, k, d, d, d) of half sets and classes.
        merged: (k, d, d, d) of both half sets, for images that are in neither; merged_pooled: (d, d, d) of all classes.
        fsc: (k, d // 2 + 1) between the halves of each class, under the mask.
        difference: (k, d // 2 + 1) between the halves of what each class differs from all of them, under the focus mask.
        influence: (2, k, d // 2 + 1) how much of itself an image finds in its reference, per weight that it has in a coefficient and
            share of it that is in the class.
    """

    volumes: Tensor
    merged: Tensor
    merged_pooled: Tensor
    fsc: Tensor
    difference: Tensor
    influence: Tensor


def make_references(
    halves: ClassHalves,
    split: float,
    mask: Tensor,
    focus: Tensor | None = None,
    lenient: bool = False,
) -> References:
    """The references of the next comparison.

    Args:
        split: Fourier pixels below which half sets share.
        mask: (d, d, d) on all maps; focus: (d, d, d) where classes may differ, None = everywhere.
        lenient: differences are filtered by the FSC of the classes, not by their own: at the beginning, when they are noise.
    """
    inside = mask if focus is None else mask * focus
    fsc = shell_correlation(*(halves.classes * mask))
    common = shell_correlation(*(halves.pooled * mask)).clamp(0, 1)
    differences = halves.classes - halves.pooled[:, None]
    own = shell_correlation(*(differences * inside))
    best = (fsc if lenient else _significant(own, inside)).amax(0).clamp(0, 1)
    low = (torch.arange(len(common), device=best.device) < split).float()
    split_filter = _Split(low)
    pooled = torch.stack(
        [split_filter(halves.joint_pooled, half, common) for half in halves.pooled]
    )
    joint_difference = halves.joint - halves.joint_pooled
    parts = torch.stack(
        [
            torch.stack(
                [split_filter(j, d, best) for j, d in zip(joint_difference, half, strict=True)]
            )
            for half in differences
        ]
    )
    merged_pooled = filter_shells(halves.joint_pooled, _of_both(common))
    merged = filter_shells(joint_difference, _of_both(best))
    weight = halves.weight.clamp_min(1e-30)
    total = halves.weight.sum(0).clamp_min(1e-30)
    influence = low * _of_both(best) / total + (1 - low) * best / weight
    return References(
        mask * pooled[:, None] + inside * parts,
        mask * merged_pooled + inside * merged,
        mask * merged_pooled,
        fsc,
        own,
        (OWN * influence * inside.mean()).float(),
    )


class _Split:
    """Filters a joint map below the split shell and a half map beyond it, by the FSC of half maps."""

    def __init__(self, low: Tensor) -> None:
        self.low = low

    def __call__(self, joint: Tensor, half: Tensor, fsc: Tensor) -> Tensor:
        coarse = filter_shells(joint, (self.low * _of_both(fsc)).to(joint))
        return coarse + filter_shells(half, ((1 - self.low) * fsc).to(half))


def _of_both(fsc: Tensor) -> Tensor:
    """The Wiener filter of the mean of half maps with this FSC; ``filter_shells`` takes shell 0 too, whose FSC is 1."""
    return (2 * fsc / (1 + fsc)).float()


def _significant(fsc: Tensor, mask: Tensor) -> Tensor:
    """FSC curves (k, s), 0 where noise in the mask (d, d, d) reaches as much."""
    shell = torch.arange(fsc.shape[-1], device=fsc.device)
    # a shell has 2 pi s^2 pairs of coefficients, of which a mask leaves as many independent as the part of the box that it covers
    number = (2 * torch.pi * shell.square() * float(mask.mean())).clamp_min(1.0)
    return torch.where(fsc * number.sqrt() > MIN_DEVIATIONS, fsc, 0.0)
