"""From sums to maps without their noise: a Wiener filter by the half maps' FSC and by where they share density, or a non-uniform one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import fsc_weight
from cryotorch.ops.fourier.reconstruct import Sums, solve_lightly
from cryotorch.ops.resolution.local_wiener import local_wiener, signal_share
from cryotorch.ops.resolution.nonuniform import apply_cutoff, filter_bank, local_cutoff
from cryotorch.refinement.em.mstep import Solved
from cryotorch.refinement.settings import EMSettings, NonUniformSettings


@dataclass(frozen=True)
class Maps:
    """What a regulariser makes of the sums.

    Attributes:
        full: (d, d, d) of all particles, what is shown.
        references: (2, d, d, d) for the next search, alike below the split.
        cutoff: (d, d, d) Å of the non-uniform filter; None = there is none.
        locally: applies that filter to another map.
    """

    full: Tensor
    references: Tensor
    cutoff: Tensor | None = None
    locally: Callable[[Tensor], Tensor] = lambda volume: volume


def regularise(
    solved: Solved,
    curve: Tensor,
    mask: Tensor,
    settings: EMSettings,
) -> Maps:
    """Maps from the sums of the half sets, and the FSC (d // 2 + 1,) of their half maps in a mask (d, d, d).

    All are solved with hardly a prior and then filtered: within a particle smaller than the box neighbouring coefficients are one,
    and a prior per coefficient would only carry the pattern of their weights into the map.
    """
    unfiltered, halves, mean_weight = solved
    merged = halves[0] + halves[1]
    even = solve_lightly(merged)
    references = _references(halves, merged, mean_weight, settings)
    if settings.nonuniform is not None:
        return _nonuniform(even, references, unfiltered, curve, settings.nonuniform, settings)
    share = (
        signal_share(unfiltered, settings.pixel_size, curve, mask)
        if settings.local_wiener
        else None
    )
    for reference in references:
        reference.copy_(local_wiener(reference, curve, share, 1))
    return Maps(local_wiener(even, curve, share, 2), references)


def _nonuniform(
    even: Tensor,
    references: Tensor,
    unfiltered: Tensor,
    curve: Tensor,
    nonuniform: NonUniformSettings,
    settings: EMSettings,
) -> Maps:
    bank = filter_bank(settings.box, settings.pixel_size)
    shape = {"resolutions": bank, "kind": nonuniform.kind, "order": nonuniform.order}
    # the gain that all places share: what is cut locally is only what is much worse than the average
    shape["weight"] = fsc_weight(curve.to(unfiltered.device)).square()
    cutoff = local_cutoff(unfiltered, settings.pixel_size, window=nonuniform.window, **shape)

    def locally(volume: Tensor) -> Tensor:
        return apply_cutoff(
            volume, settings.pixel_size, cutoff, bank, nonuniform.kind, nonuniform.order
        )

    return Maps(
        apply_cutoff(even, settings.pixel_size, cutoff, **shape),
        apply_cutoff(references, settings.pixel_size, cutoff, **shape),
        cutoff,
        locally,
    )


def _references(
    halves: list[Sums], merged: Sums, mean_weight: list[Tensor], settings: EMSettings
) -> Tensor:
    """Maps (2, d, d, d) of the half sets, alike below the split; one after the other, for the memory."""
    maps = merged.weight.new_empty(2, *(settings.box,) * 3)
    both = torch.stack(mean_weight).sum(0)
    low = torch.arange(len(both), device=both.device) < settings.split
    for out, half, own in zip(maps, halves, mean_weight, strict=True):
        with sharing_low(half, merged, settings.split):
            out.copy_(solve_lightly(half, torch.where(low, both, own)))
    return maps


@contextmanager
def sharing_low(half: Sums, merged: Sums, split: float) -> Iterator[None]:
    """A half set's sums with those of both below the split shell, as long as it lasts: what keeps the halves in one frame.

    One shell less, because windows and interpolation carry what is shared one shell further.
    """
    padded, width = len(half.weight), half.padding * math.ceil(max(split, 1))
    own = []
    for z in (slice(0, width), slice(max(width, padded - width), padded)):
        low = half.shells(z) < split - 1  # only there
        for values, both in ((half.numerator, merged.numerator), (half.weight, merged.weight)):
            own.append((values[z], values[z].clone()))
            values[z] = torch.where(low, both[z], values[z])
    yield
    for place, values in own:
        place.copy_(values)
