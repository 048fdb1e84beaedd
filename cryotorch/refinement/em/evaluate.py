"""What half maps are worth: their curves, the masks behind them, the resolution, and the map made for the eye."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.resolution import fsc
from cryotorch.ops.resolution.claims import Background, Judged, conclude, mask_numbers
from cryotorch.ops.resolution.shared_density import holding_mask
from cryotorch.ops.resolution.sharpening import Sharp, sharpened
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State

FSC_MASK = dict(near=6.0, far=12.0, cut=12.0)  # the tight mask, Å
Around = Callable[[], Tensor]


class Evaluation(NamedTuple):
    """What ``claims.conclude`` found, and the tight mask (d, d, d) behind it.

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
    half_maps: Tensor, inserted: float, settings: EMSettings, around: Around, ranks: Ranks
) -> Evaluation:
    """Judge unfiltered half maps (2, d, d, d).

    Args:
        inserted: shell that images were inserted up to.
        around: makes the mask (d, d, d) that stands in where the density makes none.
    """
    no_mask = fsc.shell_correlation(*half_maps)
    (mask, messages), wide = ranks.each(
        [
            lambda: _fsc_mask(half_maps, no_mask, settings, around),
            lambda: _wide_curves(half_maps, settings, around),
        ]
    )
    background = Background(settings.group, settings.in_common, inserted)
    onset = fsc.first_randomised_shell(no_mask, shared=background.shared)
    randomised, tight, numbers = ranks.each(
        [
            lambda: fsc.randomised_curve(half_maps, mask, onset),
            lambda: fsc.masked_correlation(half_maps, mask),
            lambda: mask_numbers(half_maps, mask, background),
        ],
        at=(0, 1, -1),
    )
    curves = fsc.with_corrected(wide | dict(tight=tight, randomised=randomised), no_mask, onset)
    judged = conclude(curves, numbers, settings.pixel_size, background, onset)
    reached = fsc.resolution(judged.curves["corrected"], settings.box, settings.pixel_size)
    # the corrected one once a mask means something, so that it cannot feed itself
    if reached < settings.mask.start_resolution:
        leading, inside = judged.curves["corrected"], mask
    else:
        leading, inside = judged.curves["spherical"], around()
    return Evaluation(judged, mask, reached, leading, inside, messages)


def keep_score(state: State, evaluation: Evaluation) -> None:
    """Add what an iteration reached to what the schedule goes by."""
    curve = evaluation.judged.curves["spherical"]
    state.convergence.crossings.append(fsc.crossing_shell(evaluation.leading, interpolate=True))
    state.convergence.areas.append(float((curve * curve.abs()).sum()))
    state.convergence.shares.append(state.share)


def for_the_eye(
    half_maps: Tensor,
    evaluation: Evaluation,
    settings: EMSettings,
    locally: Callable[[Tensor], Tensor],
) -> Sharp:
    """The sharpened map of half maps (2, d, d, d), low-passed by ``locally`` as the regulariser has it."""
    judged = evaluation.judged
    resolved = settings.box * settings.pixel_size / judged.last
    about = evaluation.mask, judged.curves["corrected"], resolved, settings.bfactor
    sharp = sharpened(half_maps, settings.pixel_size, *about, claims=judged.shell is not None)
    return sharp._replace(map=locally(sharp.map))


def _fsc_mask(
    half_maps: Tensor, no_mask: Tensor, settings: EMSettings, around: Around
) -> tuple[Tensor, list[Finding]]:
    """The tight mask of the FSC curves: the given one, else around the density; a soft sphere where that makes none."""
    if settings.mask.fsc_mask is not None:
        return settings.mask.fsc_mask.to(half_maps.device), []
    coarse = fsc.resolution(no_mask, settings.box, settings.pixel_size, 0.5)
    try:
        return holding_mask(half_maps, settings.pixel_size, coarse, **FSC_MASK)[0], []
    except ValueError as refused:
        return around(), [remark("fsc_mask_sphere", reason=str(refused))]


def _wide_curves(half_maps: Tensor, settings: EMSettings, around: Around) -> dict[str, Tensor]:
    """The curves that do without the tight mask, by name."""
    try:
        loose = fsc.loose_mask(half_maps.mean(0), settings.pixel_size, settings.mask.fsc_mask)
    except ValueError:
        loose = around()
    return {
        "loose": fsc.masked_correlation(half_maps, loose),
        "spherical": fsc.spherical_curve(half_maps),
    }
