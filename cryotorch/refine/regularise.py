"""From sums to maps without their noise: a Wiener filter by the half maps' FSC, or one that differs from place to place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    shared = [share_low(h, merged, s.split) for h in halves]
    if s.nonuniform is None:
        prior = wiener_prior(torch.stack(mean_weight).mean(0), curve)
        full = solve(merged, prior)
        return Maps(full, full, torch.stack([solve(h, prior) for h in shared]))
    n = s.nonuniform
    bank = filter_bank(s.box, s.pixel_size)
    shape = {"resolutions": bank, "kind": n.kind, "order": n.order}
    # the gain that all places share: what is cut locally is only what is much worse than the average
    shape["weight"] = fsc_weight(curve.to(unfiltered.device)).square()
    cutoff = local_cutoff(unfiltered, s.pixel_size, window=n.window, **shape)
    even = solve(merged, HALF_MAP_PRIOR * shell_mean_weight(merged))
    references = torch.stack(
        [solve(h, HALF_MAP_PRIOR * w) for h, w in zip(shared, mean_weight, strict=True)]
    )

    def locally(volume: Tensor) -> Tensor:
        return apply_cutoff(volume, s.pixel_size, cutoff, bank, n.kind, n.order)

    return Maps(
        apply_cutoff(even, s.pixel_size, cutoff, **shape),
        even,
        apply_cutoff(references, s.pixel_size, cutoff, **shape),
        cutoff,
        locally,
    )


def share_low(half: Sums, merged: Sums, split: float) -> Sums:
    """A half set's sums with those of both below the split shell: what keeps the halves in one frame.

    One shell less, because windows and interpolation carry what is shared one shell further.
    """
    low = half.shell < split - 1
    return Sums(
        torch.where(low, merged.numerator, half.numerator),
        torch.where(low, merged.weight, half.weight),
        half.box,
        half.padding,
    )
