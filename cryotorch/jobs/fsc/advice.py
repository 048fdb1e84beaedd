"""What the curves and the mask of two half maps say about themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.jobs.fsc.half_map_advice import (
    frame_advice,
    masked_advice,
    offset_advice,
    power_advice,
)
from cryotorch.jobs.fsc.mask import FOCUS, HARD_EDGE, at_faces
from cryotorch.jobs.inputs.maps import looks_inverted
from cryotorch.jobs.inputs.source_run import NONE_CLAIMED, bars
from cryotorch.ops.resolution.claims import Background, Judged
from cryotorch.ops.resolution.fsc import (
    NEXT_TO_ONSET,
    THRESHOLD,
    crossing_shell,
    first_randomised_shell,
    resolution,
)
from cryotorch.ops.resolution.shared_density import WEAK, left_out, shared_density
from cryotorch.ops.resolution.significance import independent_numbers, noise_profile, noise_share

if TYPE_CHECKING:
    from cryotorch.jobs.fsc.mask import FscMask

IDENTICAL_FSC = 0.999  # FSC in every shell that independent half maps never reach
SHARED_FSC = (
    0.5  # unmasked FSC that half maps of one particle pass in some shell from the second on
)
MIN_AGREEING_SHELLS = 4  # shells of agreement that are no resolution
BLOB_RESOLUTION = (
    30.0  # Å: an agreement to that only, with pixels for four times as much, is one of blobs
)
DIP = 0.5  # a masked FSC that falls below this and comes back points at the mask
RISING = 3  # shells that must come back: fewer do so by chance
BIASED_FSC = 0.1  # randomised FSC at the resolution that a fair mask does not reach
LATE = 0.5  # unmasked FSC below which random phases begin too late to see all of a mask's bias
MIN_MASK_SHARE = 0.002  # of the box
ABRUPT = 0.5  # the same one voxel inside: a mask that ends on the faces all the same has an edge of less than two voxels
LEFT_OUT = 0.1  # of the density that both half maps share
FINER = 3.0  # times as many shells with a mask as without are more than doubtful
CERTAIN = 0.98  # FSC at most, in ratios of signal to noise
DOUBTFUL = 0.9  # corrected FSC at Nyquist that few data reach


class Advice(NamedTuple):
    """Whether a resolution may be claimed, and everything there is to say; where nothing may, its reason last."""

    claims: bool
    warnings: list[Finding]


def advice(
    maps: Tensor,
    judged: Judged,
    mask: FscMask,
    pixel_size: float,
    known: Background,
    adjustable: bool = True,
) -> Advice:
    """Everything there is to say about half maps (2, d, d, d), what was judged of them, and the mask, after what the runs that made them said.

    Half maps that cannot be judged hear why; what is said about a mask would lead astray then. ``adjustable``: whether
    the job has the parameters that shape a mask made here.
    """
    return heard(_advice(maps, judged, mask, pixel_size, known, adjustable), known.earlier)


def heard(found: Advice, earlier: Sequence[Finding]) -> Advice:
    """What is said of half maps in view of what the runs before doubt: what claims nothing there for reasons that no half maps show claims
    nothing here, and a claim under another mask stands beside that the run itself claims none."""
    barred = bars(earlier)
    before = [finding for finding in earlier if finding not in barred]
    if not found.claims:
        before = [finding for finding in before if finding.code != NONE_CLAIMED]
        barred = [finding for finding in barred if not found.warnings]
    return Advice(found.claims and not bars(earlier), [*before, *found.warnings, *barred])


def _advice(
    maps: Tensor,
    judged: Judged,
    mask: FscMask,
    pixel_size: float,
    known: Background,
    adjustable: bool,
) -> Advice:
    box, curves = maps.shape[-1], judged.curves
    if same_map(curves["no_mask"]):
        return Advice(False, [Finding("same_map", level=IDENTICAL_FSC)])
    masked = masked_advice(maps)
    if masked:
        return Advice(False, masked)
    wrong = disagreement(curves, box * pixel_size)
    frame = frame_advice(maps, pixel_size)
    if wrong or frame:
        found = (wrong or Finding("frames_differ")).plus(cause=frame or Finding("cause_unknown"))
        return Advice(False, [*mask.warnings, found])
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
        # else it is around the wrong density; and one around a part is to leave out the rest
        if kind != FOCUS and not looks_inverted(maps.mean(0)):
            of_mask += density_advice(maps, mask.mask, pixel_size, curves["no_mask"], kind)
    of_curves = curve_advice(curves, box, pixel_size, judged.onset, kind)
    of_maps = power_advice(maps, judged.shell, pixel_size) + offset_advice(maps, mask.mask)
    return Advice(True, [*mask.warnings, *of_maps, *of_mask, *of_curves])


def same_map(no_mask: Tensor) -> bool:
    """Whether an unmasked FSC (s,) is that of a map with itself."""
    return bool((no_mask >= IDENTICAL_FSC).all())


def nothing_shared(no_mask: Tensor) -> bool:
    """Whether an unmasked FSC (s,) is that of noise, so that any resolution under a mask is the mask's."""
    return bool((no_mask[2:] < SHARED_FSC).all())


def disagreement(curves: dict[str, Tensor], edge: float) -> Finding | None:
    """That the half maps, in a box of ``edge`` Å, do not agree as two of one particle do; None where they do."""
    if nothing_shared(curves["no_mask"]):
        return Finding("nothing_shared", level=SHARED_FSC)
    reach = max(int(crossing_shell(curves[name])) for name in ("no_mask", "corrected"))
    if reach <= MIN_AGREEING_SHELLS or (
        edge / reach > BLOB_RESOLUTION and 4 * reach < len(curves["no_mask"])
    ):
        return Finding("agree_coarsely", resolution=edge / reach)
    return None


def insignificance(judged: Judged, edge: float, known: Background) -> Finding | None:
    """That noise, or what the half sets were both aligned to, explains curves in a box of ``edge`` Å; None where they do not."""
    if judged.shell is not None:
        return None
    curve = judged.curves["corrected"]
    reach = int(crossing_shell(curve))
    if known.shared and bool((curve >= judged.band)[1 : reach + 1].any()):
        return Finding("aligned_to_one_map", resolution=edge / reach, shared=edge / known.shared)
    at = min(reach, len(curve) - 1)
    symmetric = known.group is not None and len(known.group) > 1
    level = float(judged.band[at])
    return Finding("within_noise", level=level, resolution=edge / at, symmetric=symmetric)


def unsupported(maps: Tensor, judged: Judged, mask: Tensor, pixel_size: float) -> Finding | None:
    """That a claim is far finer than what half maps (2, d, d, d) share without a mask allows; None where it is not.

    Of the noise a mask holds the part g, of the signal all: where the curve with the mask is F, that without should be near
    r g / (1 + r g) with r = F / (1 - F). Counted over the shells between both resolutions.
    """
    bare = max(first_randomised_shell(judged.curves["no_mask"], THRESHOLD) - 1, 1)
    edge = len(mask) * pixel_size
    shells = slice(bare + 1, judged.shell + 1)
    if judged.shell < bare + RISING:
        return None
    profile = noise_profile(maps)
    free, part = torch.ones_like(mask), noise_share(mask, profile)
    weight = independent_numbers(free, None, profile)[shells]
    ratio = part * judged.curves["corrected"][shells].clamp(0, CERTAIN).logit().exp()
    expected = float((weight * ratio / (1 + ratio)).sum() / weight.sum())
    seen = float((weight * judged.curves["no_mask"][shells]).sum() / weight.sum())
    error = float(weight.sum().rsqrt())
    much_finer = judged.shell > FINER * bare and seen < expected / 2
    if seen + 3 * error >= expected / 3 and not much_finer:
        return None
    reached = dict(masked=edge / judged.shell, bare=edge / bare)
    return Finding("mask_correlates", **reached, expected=expected, seen=seen)


def curve_advice(
    curves: dict[str, Tensor], box: int, pixel_size: float, first_shell: int, kind: str
) -> list[Finding]:
    """What is wrong with FSC curves (d//2 + 1,), randomised from ``first_shell`` on.

    ``kind`` of the mask, which decides on the remedy.
    """
    edge, found = box * pixel_size, []
    corrected, no_mask = curves["corrected"], curves["no_mask"]
    last, bare = int(crossing_shell(corrected)), int(crossing_shell(no_mask))
    if bool((corrected[1:] >= THRESHOLD).all()):
        nyquist = float(corrected[-1])
        numbers = dict(threshold=THRESHOLD, nyquist=nyquist, resolution=edge / last)
        found.append(Finding("never_falls", **numbers, doubtful=nyquist > DOUBTFUL))
    found += _dip_advice(curves, edge, kind)
    randomised = float(curves["randomised"][last])
    # next to the onset true signal leaks into the randomised maps, whatever the mask
    if last >= first_shell + NEXT_TO_ONSET and randomised > BIASED_FSC:
        found.append(Finding("random_phases_agree", fsc=randomised, level=BIASED_FSC, kind=kind))
    if first_shell > crossing_shell(no_mask, LATE) + 1:
        begins = edge / min(first_shell, len(no_mask) - 1)
        found.append(Finding("random_phases_late", begin=begins, level=LATE))
    if bare > last:
        found.append(Finding("mask_cuts", resolution=edge / bare, kind=kind))
    return found


def _dip_advice(curves: dict[str, Tensor], edge: float, kind: str) -> list[Finding]:
    for name in ("no_mask", "tight"):
        fall, rise = dip(curves[name])
        if rise:
            place = dict(level=DIP, fall=edge / fall, rise=edge / rise)
            return [Finding("curve_dips", curve=name, **place, kind=kind)]
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


def mask_advice(mask: Tensor, kind: str) -> list[Finding]:
    """What is wrong with a mask (d, d, d) of this kind in its box."""
    found, volume = [], float(mask.double().mean())
    face = at_faces(mask)
    if face <= HARD_EDGE and at_faces(mask, 1) > ABRUPT:
        face = at_faces(mask, 1)
    if face > HARD_EDGE:
        found.append(Finding("mask_at_faces", value=face, kind=kind))
    if volume < MIN_MASK_SHARE:
        found.append(Finding("mask_tiny", fraction=volume, kind=kind))
    return found


def density_advice(
    maps: Tensor, mask: Tensor, pixel_size: float, no_mask: Tensor, kind: str
) -> list[Finding]:
    """Whether a mask leaves out much of what half maps (2, d, d, d) share."""
    coarse = resolution(no_mask, maps.shape[-1], pixel_size, 0.5)
    if coarse > WEAK:
        return []
    share = left_out(shared_density(maps, pixel_size, coarse), mask)
    return [] if share < LEFT_OUT else [Finding("mask_leaves_out", share=share, kind=kind)]
