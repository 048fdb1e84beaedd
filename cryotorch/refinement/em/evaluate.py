"""What half maps are worth: their curves, the masks behind them, the resolution, and the map made for the eye."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.resolution.claims import Background, Judged, judge
from cryotorch.ops.resolution.fsc import crossing_shell, loose_mask, resolution, shell_correlation
from cryotorch.ops.resolution.shared_density import holding_mask
from cryotorch.ops.resolution.sharpening import Sharp, sharpened
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State

FSC_MASK = dict(near=6.0, far=12.0, cut=12.0)  # the tight mask, Å


class Evaluation(NamedTuple):
    """What ``claims.judge`` found, and the tight mask (d, d, d) behind it.

    Attributes:
        reached: Å, where the corrected curve falls below 0.143, whether that may be claimed or not.
        leading: (d // 2 + 1,) the curve that sets band limit and prior; inside: (d, d, d) the mask that it was measured in.
        messages: for the log.
    """

    judged: Judged
    mask: Tensor
    reached: float
    leading: Tensor
    inside: Tensor
    messages: list[Finding]


def evaluate(
    half_maps: Tensor, inserted: float, s: EMSettings, around: Callable[[], Tensor]
) -> Evaluation:
    """Judge unfiltered half maps (2, d, d, d).

    Args:
        inserted: shell that images were inserted up to.
        around: makes the mask (d, d, d) that stands in where the density makes none.
    """
    mean = half_maps.mean(0)
    no_mask = shell_correlation(*half_maps)
    mask, messages = _fsc_mask(half_maps, no_mask, s, around)
    try:
        loose = loose_mask(mean, s.pixel_size, s.mask.judge)
    except ValueError:
        loose = around()
    del mean
    known = Background(s.group, s.in_common, inserted)
    judged = judge(half_maps, s.pixel_size, mask, loose, known, no_mask=no_mask)
    reached = resolution(judged.curves["corrected"], s.box, s.pixel_size)
    # the corrected one once a mask means something, so that it cannot feed itself
    if reached < s.mask.start:
        leading, inside = judged.curves["corrected"], mask
    else:
        leading, inside = judged.curves["spherical"], around()
    return Evaluation(judged, mask, reached, leading, inside, messages)


def keep_score(state: State, found: Evaluation) -> None:
    """Add what an iteration reached to what the schedule goes by."""
    fsc = found.judged.curves["spherical"]
    state.course.crossings.append(crossing_shell(found.leading, interpolate=True))
    state.course.areas.append(float((fsc * fsc.abs()).sum()))
    state.course.shares.append(state.share)


def for_the_eye(
    half_maps: Tensor, found: Evaluation, s: EMSettings, locally: Callable[[Tensor], Tensor]
) -> Sharp:
    """The sharpened map of half maps (2, d, d, d), low-passed by ``locally`` as the regulariser has it."""
    judged = found.judged
    reached = s.box * s.pixel_size / judged.last
    about = found.mask, judged.curves["corrected"], reached, s.bfactor
    sharp = sharpened(half_maps, s.pixel_size, *about, claims=judged.shell is not None)
    return sharp._replace(map=locally(sharp.map))


def _fsc_mask(
    half_maps: Tensor, no_mask: Tensor, s: EMSettings, around: Callable[[], Tensor]
) -> tuple[Tensor, list[Finding]]:
    """The tight mask of the FSC curves: the given one, else around the density; a soft sphere where that makes none."""
    if s.mask.judge is not None:
        return s.mask.judge.to(half_maps.device), []
    coarse = resolution(no_mask, s.box, s.pixel_size, 0.5)
    try:
        return holding_mask(half_maps, s.pixel_size, coarse, **FSC_MASK)[0], []
    except ValueError as refused:
        return around(), [remark("fsc_mask_sphere", reason=str(refused))]
