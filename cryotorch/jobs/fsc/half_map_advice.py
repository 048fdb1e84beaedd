"""What two half maps say about themselves before any mask: masked already, mirrored, or shifted against each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import radial_amplitude
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.masks.soft import soft_sphere

MASKED = 0.3  # of the sphere that fits into the box, constant in both half maps
UNEQUAL = 10.0  # ratio of the powers of half maps that halves of one set do not reach
OFFSET = 1.0  # level of the solvent over the signal in the mask
COARSE = 5.0  # Å: what shows a frame or a hand
BETTER = 1.05  # correlation in another frame over that as they are
CLEAR = 0.3  # correlation that noise does not reach in another frame


def masked_before(maps: Tensor) -> float:
    """The part of the sphere that fits into the box where both half maps (2, d, d, d) are constant.

    Only there: many programs blank the corners. Noise is not constant anywhere.
    """
    box = maps.shape[-1]
    inside = soft_sphere(box, 0.8 * box / 2, 0, maps.device) > 0.5
    constant = inside.clone()
    for half in maps:
        flat = torch.zeros_like(inside)
        flat[..., 1:] = half.diff(dim=-1) == 0
        held = half[flat & inside]
        constant &= (half == held.median()) if len(held) else False
    return float(constant.sum() / inside.sum())


def masked_advice(maps: Tensor) -> list[str]:
    """One sentence for half maps (2, d, d, d) that somebody has masked, else none."""
    share = masked_before(maps)
    if share < MASKED:
        return []
    return [
        f"Both half maps are constant in {share:.0%} of their sphere: they were masked before, and share the mask, which "
        "no FSC without a mask can tell from signal. Give the half maps as the refinement left them"
    ]


def power_advice(maps: Tensor, reached: int, pixel_size: float) -> list[str]:
    """One sentence where half maps (2, d, d, d) differ much in power in some shell up to the one ``reached``, else none.

    A correlation does not see it, but the mean of both is nearly one of them.
    """
    power = torch.stack([radial_amplitude(half).square() for half in maps])[:, 1 : reached + 1]
    ratio = (power[0] / power[1].clamp_min(1e-30)).log()
    worst = int(ratio.abs().argmax())
    if float(ratio[worst].abs()) < math.log(UNEQUAL):
        return []
    louder, factor = "AB"[int(ratio[worst] < 0)], float(ratio[worst].abs().exp())
    at = maps.shape[-1] * pixel_size / (worst + 1)
    return [
        f"Half map {louder} has {factor:.3g} times the power of the other at {at:.3g} Å: their mean is nearly that one alone, and no "
        "FSC sees it. Give both on one grey scale, neither filtered nor sharpened, of half sets of like size"
    ]


def offset_advice(maps: Tensor, mask: Tensor) -> list[str]:
    """One sentence where half maps (2, d, d, d) have a solvent far from zero, which makes the mask (d, d, d) correlate; else none."""
    solvent = 1 - mask
    room = float(solvent.sum())
    if room < 1:
        return []
    level = torch.stack([(half * solvent).sum() / room for half in maps])
    inside = torch.stack(
        [((h - at) * mask).square().mean() for h, at in zip(maps, level, strict=True)]
    )
    ratio = float(
        (level.abs() * mask.square().mean().sqrt() / inside.sqrt().clamp_min(1e-30)).min()
    )
    if ratio < OFFSET:
        return []
    return [
        f"The solvent of both half maps is far from zero, {ratio:.1f} times the signal in the mask: the mask cuts a step there that "
        "both have in common. Subtract the constant"
    ]


def frame_advice(maps: Tensor, pixel_size: float) -> str:
    """How half map B must be moved to agree better with half map A; "" where it agrees best as it is.

    The peak of the cross-correlation of both maps, sampled at 5 Å, as they are and mirrored.
    """
    box, coarse = maps.shape[-1], max(pixel_size, COARSE)
    size = max(8, 2 * int(box * pixel_size / coarse / 2))
    a, b = (resample_volume(half, pixel_size, size, coarse) for half in maps)
    as_is, peak, shift = _peak(a, b)
    mirrored = max(_peak(a, b.flip(axis))[1] for axis in range(3))
    if mirrored > max(BETTER * peak, CLEAR):
        return "half map B is the mirror image of half map A: flip one with job=volume_tools flip_hand=true"
    distance = coarse * float(shift.double().norm())
    if peak > max(BETTER * as_is, CLEAR):
        return f"half map B is shifted by about {distance:.0f} Å against half map A: move it with job=volume_tools shift"
    return ""


def _peak(a: Tensor, b: Tensor) -> tuple[float, float, Tensor]:
    """Correlation of two volumes (d, d, d) as they are and at the best shift, and that shift (3,) in voxels."""
    first, second = (torch.fft.rfftn(v - v.mean()) for v in (a, b))
    scale = a.numel() * a.std(correction=0) * b.std(correction=0)
    table = torch.fft.irfftn(first * second.conj(), s=a.shape) / scale.clamp(min=1e-30)
    place = torch.stack(torch.unravel_index(table.argmax(), table.shape))
    half = a.shape[-1] // 2
    shift = (place + half) % a.shape[-1] - half
    return float(table[0, 0, 0]), float(table.max()), shift
