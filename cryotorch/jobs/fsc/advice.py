"""What the curves and the mask of two half maps say about themselves: sentences with the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cryotorch.jobs.fsc.half_map_advice import (
    frame_advice,
    masked_advice,
    offset_advice,
    power_advice,
)
from cryotorch.jobs.fsc.mask import HARD_EDGE, at_faces
from cryotorch.jobs.inputs.half_maps import looks_inverted
from cryotorch.ops.resolution.claims import Background, Judged
from cryotorch.ops.resolution.fsc import (
    NEXT_TO_ONSET,
    crossing_shell,
    first_randomised_shell,
    resolution,
)
from cryotorch.ops.resolution.shared_density import WEAK, left_out, shared_density
from cryotorch.ops.resolution.significance import independent_numbers, noise_profile, noise_share
from cryotorch.report.curves import THRESHOLD

if TYPE_CHECKING:
    from cryotorch.jobs.fsc.mask import FscMask

SAME = 0.999  # FSC in every shell that independent half maps never reach
SHARED = 0.5  # unmasked FSC that half maps of one particle pass in some shell from the second on
FEW = 4  # shells of agreement that are no resolution
COARSE = 30.0  # Å: an agreement to that only, with pixels for four times as much, is one of blobs
DIP = 0.5  # a masked FSC that falls below this and comes back points at the mask
RISING = 3  # shells that must come back: fewer do so by chance
BIASED = 0.1  # randomised FSC at the resolution that a fair mask does not reach
LATE = 0.5  # unmasked FSC below which random phases begin too late to see all of a mask's bias
SMALL = 0.002  # of the box
ABRUPT = 0.5  # the same one voxel inside: a mask that ends on the faces all the same has an edge of less than two voxels
LEFT_OUT = 0.1  # of the density that both half maps share
FINER = 3.0  # times as many shells with a mask as without are more than doubtful
CERTAIN = 0.98  # FSC at most, in ratios of signal to noise
DOUBTFUL = 0.9  # corrected FSC at Nyquist that few data reach
SHARED_IMAGES = ". Few data are so good: check that no particle is in both half sets"


class Remedy(NamedTuple):
    """What makes a mask wider, softer, smaller, or hold more density."""

    wider: str
    softer: str
    smaller: str
    more: str


VALIDATE = "job=validation_fsc volume=<this folder> with"
# By the kind of mask; "fixed" is one made by a job that has no parameters for it.
REMEDIES = {
    "generated": Remedy(
        "lower threshold, larger mask_near",
        "lower threshold, larger mask_far",
        "lower mask_far, raise threshold",
        "lower threshold",
    ),
    "given": Remedy(
        "job=volume_tools volume=<mask> dilate=6 soften=15",
        "job=volume_tools volume=<mask> soften=15",
        "give a smaller mask",
        "give another",
    ),
    "fixed": Remedy(
        f"{VALIDATE} a lower threshold makes one",
        f"{VALIDATE} a lower threshold and a larger mask_far makes one",
        f"{VALIDATE} a higher threshold makes a smaller one",
        f"{VALIDATE} a lower threshold makes one that holds more",
    ),
}


class Advice(NamedTuple):
    """Whether a resolution may be claimed, and everything there is to say, in sentences."""

    claims: bool
    warnings: list[str]


def advice(
    maps: Tensor,
    judged: Judged,
    mask: FscMask,
    pixel_size: float,
    known: Background,
    adjustable: bool = True,
) -> Advice:
    """Everything there is to say about half maps (2, d, d, d), what was judged of them, and the mask.

    Half maps that cannot be judged hear why; what is said about a mask would lead astray then. ``adjustable``: whether
    the job has the parameters that shape a mask made here.
    """
    box, curves = maps.shape[-1], judged.curves
    if same_map(curves["no_mask"]):
        return Advice(False, [SAME_MAP])
    masked = masked_advice(maps)
    if masked:
        return Advice(False, masked)
    wrong = disagreement(curves, box * pixel_size)
    frame = frame_advice(maps, pixel_size)
    if wrong or frame:
        return Advice(False, [*mask.warnings, f"{wrong or FRAME}: {frame or CAUSES}"])
    nothing = insignificance(judged, box * pixel_size, known) or unsupported(
        maps, judged, mask.mask, pixel_size
    )
    if nothing:
        return Advice(False, [*mask.warnings, nothing])
    of_mask, kind = [], mask.kind
    if kind == "generated" and not adjustable:
        kind = "fixed"
    if kind != "sphere":
        of_mask = mask_advice(mask.mask, kind)
        if not looks_inverted(maps.mean(0)):  # else it is around the wrong density
            of_mask += density_advice(maps, mask.mask, pixel_size, curves["no_mask"], kind)
    of_curves = curve_advice(curves, box, pixel_size, judged.onset, kind)
    of_maps = power_advice(maps, judged.shell, pixel_size) + offset_advice(maps, mask.mask)
    return Advice(True, [*mask.warnings, *of_maps, *of_mask, *of_curves])


SAME_MAP = f"The FSC is above {SAME:g} in every shell: the half maps are almost the same map, not two independent ones"
FRAME = "The half maps do not lie on each other, and the resolution says nothing"
CAUSES = (
    "check that both are of one refinement, of the same hand and in the same frame (neither shifted nor turned), and "
    "that there is a particle in them"
)


def same_map(no_mask: Tensor) -> bool:
    """Whether an unmasked FSC (s,) is that of a map with itself."""
    return bool((no_mask >= SAME).all())


def nothing_shared(no_mask: Tensor) -> bool:
    """Whether an unmasked FSC (s,) is that of noise, so that any resolution under a mask is the mask's."""
    return bool((no_mask[2:] < SHARED).all())


def disagreement(curves: dict[str, Tensor], edge: float) -> str:
    """That the half maps, in a box of ``edge`` Å, do not agree as two of one particle do; "" where they do."""
    if nothing_shared(curves["no_mask"]):
        return (
            "No resolution can be claimed, without a mask the half maps share next to nothing (their FSC stays below "
            f"{SHARED:g} from the second shell on)"
        )
    reach = max(int(crossing_shell(curves[name])) for name in ("no_mask", "corrected"))
    if reach <= FEW or (edge / reach > COARSE and 4 * reach < len(curves["no_mask"])):
        return f"The half maps agree to {edge / reach:.3g} Å only, which is no resolution to claim"
    return ""


def insignificance(judged: Judged, edge: float, known: Background) -> str:
    """That noise, or what the half sets were both aligned to, explains curves in a box of ``edge`` Å; "" where they do not."""
    if judged.shell is not None:
        return ""
    curve, noise = judged.curves["corrected"], "the half maps agree no further than noise may"
    reach = int(crossing_shell(curve))
    if known.shared and bool((curve >= judged.band)[1 : reach + 1].any()):
        return (
            f"Nothing to claim: the half maps agree to {edge / reach:.3g} Å, and both were aligned to one map up to "
            f"{edge / known.shared:.3g} Å, which they have in common whatever the images hold. Check that the images hold the "
            "particle, start from a coarser map and take a coarser split_resolution"
        )
    at = min(reach, len(curve) - 1)
    why = "" if known.group is None or len(known.group) == 1 else " and this symmetry"
    return (
        f"Nothing to claim: {noise}, whose FSC under this mask{why} reaches {float(judged.band[at]):.2f} at {edge / at:.3g} Å "
        "(3 standard errors): more particles, or a wider mask, are needed"
    )


def unsupported(maps: Tensor, judged: Judged, mask: Tensor, pixel_size: float) -> str:
    """That a claim is far finer than what half maps (2, d, d, d) share without a mask allows; "" where it is not.

    Of the noise a mask holds the part g, of the signal all: where the curve with the mask is F, that without should be near
    r g / (1 + r g) with r = F / (1 - F). Counted over the shells between both resolutions.
    """
    bare = max(first_randomised_shell(judged.curves["no_mask"], THRESHOLD) - 1, 1)
    edge = len(mask) * pixel_size
    shells = slice(bare + 1, judged.shell + 1)
    if judged.shell < bare + RISING:
        return ""
    profile = noise_profile(maps)
    free, part = torch.ones_like(mask), noise_share(mask, profile)
    weight = independent_numbers(free, None, profile)[shells].to(mask.device)
    ratio = part * judged.curves["corrected"][shells].clamp(0, CERTAIN).logit().exp()
    expected = float((weight * ratio / (1 + ratio)).sum() / weight.sum())
    seen = float((weight * judged.curves["no_mask"][shells]).sum() / weight.sum())
    error = float(weight.sum().rsqrt())
    much_finer = judged.shell > FINER * bare and seen < expected / 2
    if seen + 3 * error >= expected / 3 and not much_finer:
        return ""
    return (
        f"Nothing to claim: {edge / judged.shell:.2f} Å with the mask is far finer than the {edge / bare:.2f} Å without, where the half "
        f"maps should still share {expected:.2f} and share {seen:.2f}: it is the mask that correlates. Take a wider and softer one, and "
        "look at both half maps"
    )


def curve_advice(
    curves: dict[str, Tensor], box: int, pixel_size: float, first_shell: int, kind: str
) -> list[str]:
    """What is wrong with FSC curves (d//2 + 1,), randomised from ``first_shell`` on, and what to do about it.

    ``kind`` of the mask, which decides on the remedy.
    """
    edge, said = box * pixel_size, []
    corrected, no_mask = curves["corrected"], curves["no_mask"]
    last, bare = int(crossing_shell(corrected)), int(crossing_shell(no_mask))
    wider, softer, *_ = REMEDIES.get(kind, REMEDIES["generated"])
    if bool((corrected[1:] >= THRESHOLD).all()):
        said.append(
            f"The corrected FSC never falls below {THRESHOLD:g}, it is {float(corrected[-1]):.2f} at Nyquist: the pixel "
            f"size limits the resolution to {edge / last:.2f} Å, extract the particles with smaller pixels"
            + (SHARED_IMAGES if float(corrected[-1]) > DOUBTFUL else "")
        )
    said += _dip_advice(curves, edge, wider)
    randomised = float(curves["randomised"][last])
    # next to the onset true signal leaks into the randomised maps, whatever the mask
    if last >= first_shell + NEXT_TO_ONSET and randomised > BIASED:
        said.append(
            f"The FSC of randomised phases is {randomised:.2f} at the resolution, above {BIASED:g}: the mask is too tight "
            f"or too sharp, take a wider and softer one ({softer})"
        )
    if first_shell > crossing_shell(no_mask, LATE) + 1:
        begins = edge / min(first_shell, len(no_mask) - 1)
        said.append(
            f"Random phases begin at {begins:.2f} Å, where the FSC without a mask is below {LATE:g} already: what the mask "
            "adds before that is not corrected, give a coarser randomise_below, or 0.8"
        )
    if bare > last:
        said.append(
            f"Without a mask the half maps agree further, to {edge / bare:.2f} Å: the mask cuts density off, give or "
            f"make a wider one ({wider})"
        )
    return said


def _dip_advice(curves: dict[str, Tensor], edge: float, wider: str) -> list[str]:
    reasons = {
        "no_mask": "the mask is not the reason, look at the half maps for ice, missing views or a filter",
        "tight": f"often the mask is too tight, take a wider one ({wider})",
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


def mask_advice(mask: Tensor, kind: str) -> list[str]:
    """What is wrong with a mask (d, d, d) of this kind in its box, and what to do about it."""
    said, volume = [], float(mask.double().mean())
    face = at_faces(mask)
    if face <= HARD_EDGE and at_faces(mask, 1) > ABRUPT:
        face = at_faces(mask, 1)
    if face > HARD_EDGE:
        said.append(
            f"The mask reaches the edge of the box with a value of {face:.2f}: {REMEDIES[kind].smaller}, or extract the particles in a "
            "larger box"
        )
    if volume < SMALL:
        check = "check that the mask belongs to this map"
        said.append(
            f"The mask covers {volume:.2%} of the box only: "
            f"{check if kind == 'given' else f'{REMEDIES[kind].more}, or {check}'}"
        )
    return said


def density_advice(
    maps: Tensor, mask: Tensor, pixel_size: float, no_mask: Tensor, kind: str
) -> list[str]:
    """One sentence where a mask leaves out much of what half maps (2, d, d, d) share, else none."""
    coarse = resolution(no_mask, maps.shape[-1], pixel_size, 0.5)
    if coarse > WEAK:
        return []
    share = left_out(shared_density(maps, pixel_size, coarse), mask)
    if share < LEFT_OUT:
        return []
    remedy = f"{REMEDIES[kind].more}, unless what is missing is solvent or micelle"
    if kind == "given":
        remedy = f"take a wider one ({REMEDIES[kind].wider}), unless it is to cover a part"
    return [
        f"The mask leaves out {share:.0%} of the density that both half maps share, and the curves say nothing about "
        f"that: {remedy}"
    ]
