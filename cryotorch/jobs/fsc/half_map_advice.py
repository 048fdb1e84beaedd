"""What two half maps say about themselves before any mask: masked already, mirrored, or shifted against each other."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.fourier.filters import radial_amplitude
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.masks.soft import soft_sphere

MASKED = 0.3  # of the sphere that fits into the box, constant in both half maps
UNEQUAL = 10.0  # ratio of the powers of half maps that halves of one set do not reach
OFFSET = 1.0  # level of the solvent over the signal in the mask
FRAME_RESOLUTION = 5.0  # Å: what shows a frame or a hand
BETTER = 1.05  # correlation in another frame over that as they are
CLEAR_CORRELATION = 0.3  # correlation that noise does not reach in another frame


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


def masked_advice(maps: Tensor) -> list[Finding]:
    """Whether somebody has masked half maps (2, d, d, d)."""
    share = masked_before(maps)
    return [] if share < MASKED else [Finding("masked_before", share=share)]


def power_advice(maps: Tensor, reached: int, pixel_size: float) -> list[Finding]:
    """Whether half maps (2, d, d, d) differ much in power in some shell up to the one ``reached``.

    A correlation does not see it, but the mean of both is nearly one of them.
    """
    power = torch.stack([radial_amplitude(half).square() for half in maps])[:, 1 : reached + 1]
    ratio = (power[0] / power[1].clamp_min(1e-30)).log()
    worst = int(ratio.abs().argmax())
    if float(ratio[worst].abs()) < math.log(UNEQUAL):
        return []
    louder, factor = "AB"[int(ratio[worst] < 0)], float(ratio[worst].abs().exp())
    at = maps.shape[-1] * pixel_size / (worst + 1)
    return [Finding("unequal_power", half=louder, ratio=factor, resolution=at)]


def offset_advice(maps: Tensor, mask: Tensor) -> list[Finding]:
    """Whether half maps (2, d, d, d) have a solvent far from zero, which makes the mask (d, d, d) correlate."""
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
    return [] if ratio < OFFSET else [Finding("solvent_offset", ratio=ratio)]


def frame_advice(maps: Tensor, pixel_size: float) -> Finding | None:
    """How half map B lies against half map A, where it would agree better in another frame; None where it agrees best as it is.

    The peak of the cross-correlation of both maps, sampled at 5 Å, as they are and mirrored.
    """
    box, coarse = maps.shape[-1], max(pixel_size, FRAME_RESOLUTION)
    size = max(8, 2 * int(box * pixel_size / coarse / 2))
    a, b = (resample_volume(half, pixel_size, size, coarse) for half in maps)
    as_is, peak, shift = _peak(a, b)
    mirrored = max(_peak(a, b.flip(axis))[1] for axis in range(3))
    if mirrored > max(BETTER * peak, CLEAR_CORRELATION):
        return Finding("half_map_mirrored")
    distance = coarse * float(shift.double().norm())
    if peak > max(BETTER * as_is, CLEAR_CORRELATION):
        return Finding("half_map_shifted", distance=distance)
    return None


def _peak(a: Tensor, b: Tensor) -> tuple[float, float, Tensor]:
    """Correlation of two volumes (d, d, d) as they are and at the best shift, and that shift (3,) in voxels."""
    first, second = (torch.fft.rfftn(v - v.mean()) for v in (a, b))
    scale = a.numel() * a.std(correction=0) * b.std(correction=0)
    table = torch.fft.irfftn(first * second.conj(), s=a.shape) / scale.clamp(min=1e-30)
    place = torch.tensor(
        np.unravel_index(int(table.argmax()), table.shape)
    )  # torch's imports sympy
    half = a.shape[-1] // 2
    shift = (place + half) % a.shape[-1] - half
    return float(table[0, 0, 0]), float(table.max()), shift
