"""From sums to maps without their noise: a Wiener filter by the half maps' FSC, or one that differs from place to place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.filters import fsc_weight
from cryotorch.ops.nonuniform import apply_cutoff, filter_bank, local_cutoff
from cryotorch.ops.reconstruct import Sums, shell_mean_weight, solve, wiener_prior
from cryotorch.refine.state import Settings

HALF_MAP_PRIOR = (
    0.05  # times the shell's mean weight: half maps for the FSC are as good as unregularised
)


@dataclass(frozen=True)
class Maps:
    """What a regulariser makes of the sums.

    Attributes:
        full: (d, d, d) of all particles, what is shown; even: the same before any filter that differs from place to place.
        references: (2, d, d, d) for the next search, alike below the split.
        cutoff: (d, d, d) Å of the local filter; None = there is none.
        locally: applies that filter to another map.
    """

    full: Tensor
    even: Tensor
    references: Tensor
    cutoff: Tensor | None = None
    locally: Callable[[Tensor], Tensor] = lambda volume: volume


def regularise(
    halves: list[Sums], mean_weight: list[Tensor], unfiltered: Tensor, curve: Tensor, s: Settings
) -> Maps:
    """Maps from the sums of the half sets, their mean weight per shell (d // 2 + 1,), the half maps (2, d, d, d) that were
    solved from them for the FSC, and that FSC (d // 2 + 1,)."""
    merged = halves[0] + halves[1]
    if s.nonuniform is None:
        prior = wiener_prior(torch.stack(mean_weight).mean(0), curve)
        full = solve(merged, prior)
        return Maps(full, full, _references(halves, merged, [prior] * 2, s))
    n = s.nonuniform
    bank = filter_bank(s.box, s.pixel_size)
    shape = {"resolutions": bank, "kind": n.kind, "order": n.order}
    # the gain that all places share: what is cut locally is only what is much worse than the average
    shape["weight"] = fsc_weight(curve.to(unfiltered.device)).square()
    cutoff = local_cutoff(unfiltered, s.pixel_size, window=n.window, **shape)
    even = solve(merged, HALF_MAP_PRIOR * shell_mean_weight(merged))
    references = _references(halves, merged, [HALF_MAP_PRIOR * w for w in mean_weight], s)

    def locally(volume: Tensor) -> Tensor:
        return apply_cutoff(volume, s.pixel_size, cutoff, bank, n.kind, n.order)

    return Maps(
        apply_cutoff(even, s.pixel_size, cutoff, **shape),
        even,
        apply_cutoff(references, s.pixel_size, cutoff, **shape),
        cutoff,
        locally,
    )


def _references(halves: list[Sums], merged: Sums, priors: list[Tensor], s: Settings) -> Tensor:
    """Maps (2, d, d, d) of the half sets, alike below the split; one after the other, for the memory."""
    maps = merged.weight.new_empty(2, *(s.box,) * 3)
    for out, half, prior in zip(maps, halves, priors, strict=True):
        out.copy_(solve(share_low(half, merged, s.split), prior))
    return maps


def share_low(half: Sums, merged: Sums, split: float) -> Sums:
    """A half set's sums with those of both below the split shell: what keeps the halves in one frame.

    One shell less, because windows and interpolation carry what is shared one shell further.
    """
    shell, reach = half.shell, half.padding * math.ceil(max(split, 1))
    numerator, weight = half.numerator.clone(), half.weight.clone()
    for z in (slice(0, reach), slice(max(reach, len(shell) - reach), None)):
        low = shell[z] < split - 1  # only there
        numerator[z] = torch.where(low, merged.numerator[z], numerator[z])
        weight[z] = torch.where(low, merged.weight[z], weight[z])
    return replace(half, numerator=numerator, weight=weight)
