"""What the curves and the mask of a validation say about themselves: sentences with the remedy."""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.ops.fsc import NEXT_TO_ONSET, crossing_shell

THRESHOLD = 0.143
SAME = 0.999  # FSC in every shell that independent half maps never reach
DIP = 0.5  # a masked FSC that falls below this and comes back points at the mask
RISING = 3  # shells that must come back: fewer do so by chance
BIASED = 0.1  # randomised FSC at the resolution that a fair mask does not reach
SMALL = 0.002  # of the box


def curve_advice(
    curves: dict[str, Tensor], box: int, pixel_size: float, first_shell: int
) -> list[str]:
    """What is wrong with FSC curves (d//2 + 1,), randomised from ``first_shell`` on, and what to do about it."""
    edge, said = box * pixel_size, []
    corrected, no_mask = curves["corrected"], curves["no_mask"]
    last, bare = int(crossing_shell(corrected)), int(crossing_shell(no_mask))
    if bool((no_mask >= SAME).all()):
        said.append(
            f"The FSC is above {SAME:g} in every shell: the half maps are almost the same map, not two independent ones"
        )
    elif bool((corrected[1:] >= THRESHOLD).all()):
        said.append(
            f"The corrected FSC never falls below {THRESHOLD:g}, it is {float(corrected[-1]):.2f} at Nyquist: the pixel "
            f"size limits the resolution to {edge / last:.2f} Å, extract the particles with smaller pixels"
        )
    if bare <= 2:
        said.append(
            f"Without a mask the half maps agree to {edge / bare:.3g} Å only: check that both are of one refinement, in "
            "the same frame and of the same hand"
        )
    said += _dip_advice(curves, edge)
    randomised = float(curves["randomised"][last])
    # next to the onset true signal leaks into the randomised maps, whatever the mask
    if last >= first_shell + NEXT_TO_ONSET and randomised > BIASED:
        said.append(
            f"The FSC of randomised phases is {randomised:.2f} at the resolution, above {BIASED:g}: the mask is too tight "
            "or too sharp, take a wider and softer one (lower threshold, larger mask_far)"
        )
    if bare > last:
        said.append(
            f"Without a mask the half maps agree further, to {edge / bare:.2f} Å: the mask cuts density off, give or "
            "make a wider one (lower threshold, larger mask_near)"
        )
    return said


def _dip_advice(curves: dict[str, Tensor], edge: float) -> list[str]:
    reasons = {
        "no_mask": "the mask is not the reason, look at the half maps for ice, missing views or a filter",
        "tight": "often the mask is too tight, take a wider one (lower threshold, larger mask_near)",
    }
    for name, reason in reasons.items():
        fall, rise = dip(curves[name])
        if rise:
            said = "without a mask" if name == "no_mask" else "with the mask"
            return [
                f"The FSC {said} falls below {DIP:g} at {edge / fall:.2f} Å and is above it again at {edge / rise:.2f} Å: {reason}"
            ]
    return []


def dip(curve: Tensor) -> tuple[int, int]:
    """Where a curve (s,) falls below 0.5 and the last shell where it is above again; (0, 0) where it stays below."""
    above = curve >= DIP
    high = torch.nonzero(above[1:])  # a low first shell is a matter of the background
    start = int(high[0]) + 1 if len(high) else 1
    low = torch.nonzero(~above[start:])
    if not len(low):
        return 0, 0
    fall = start + int(low[0])
    again = torch.nonzero(above[fall:])
    return (fall, fall + int(again[-1])) if len(again) >= RISING else (0, 0)


def mask_advice(mask: Tensor) -> list[str]:
    """What is wrong with a mask (d, d, d) in its box, and what to do about it."""
    said, volume = [], float(mask.double().mean())
    ends = [mask.select(axis, place) for axis in range(3) for place in (0, -1)]
    face = max(float(end.max()) for end in ends)
    if face > 0.05:
        said.append(
            f"The mask reaches the edge of the box with a value of {face:.2f}: lower mask_far, raise threshold, or "
            "extract the particles in a larger box"
        )
    if volume < SMALL:
        said.append(
            f"The mask covers {volume:.2%} of the box only: lower threshold, or check that the mask belongs to this map"
        )
    return said
