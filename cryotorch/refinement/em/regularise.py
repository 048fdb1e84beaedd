"""From sums to maps without their noise: a Wiener filter by the half maps' FSC and by where they share density, or a non-uniform one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import fsc_weight
from cryotorch.ops.fourier.reconstruct import Halves, Sums, solve_lightly
from cryotorch.ops.resolution.local_wiener import local_wiener, signal_share
from cryotorch.ops.resolution.nonuniform import apply_cutoff, filter_bank, local_cutoff
from cryotorch.ops.resolution.sharpening import Sharp
from cryotorch.refinement.em.evaluate import Evaluation, for_the_eye
from cryotorch.refinement.em.mstep import Solved
from cryotorch.refinement.em.reference_mask import masked_map
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import EMSettings


@dataclass(frozen=True)
class NoiseFilter:
    """What takes the noise out of maps.

    Attributes:
        curve: (d // 2 + 1,) FSC of the half maps.
        share: (d, d, d) of the signal at each place, for the Wiener filter; None = alike everywhere.
        cutoff: (d, d, d) Å of the non-uniform filter; None = there is none.
    """

    settings: EMSettings
    curve: Tensor
    share: Tensor | None = None
    cutoff: Tensor | None = None

    def __call__(self, volume: Tensor, n_halves: int) -> Tensor:
        """A map (d, d, d) of one half set or both without its noise."""
        if self.cutoff is None:
            return local_wiener(volume, self.curve, self.share, n_halves)
        shape = _bank(self.settings) | {"weight": _shared_gain(self.curve, volume)}
        return apply_cutoff(volume, self.settings.pixel_size, self.cutoff, **shape)

    def locally(self, volume: Tensor) -> Tensor:
        """The non-uniform low-pass alone, where there is one, of a map (d, d, d) that has been filtered by the FSC."""
        if self.cutoff is None:
            return volume
        return apply_cutoff(volume, self.settings.pixel_size, self.cutoff, **_bank(self.settings))


@dataclass(frozen=True)
class Unfiltered:
    """Maps that are still to be filtered.

    Attributes:
        both: (d, d, d) of all particles; halves: (d, d, d) of each half set, alike below the split.
    """

    both: Tensor
    halves: Sequence[Tensor]
    noise_filter: NoiseFilter

    def full(self) -> Tensor:
        """The map (d, d, d) of all particles, as it is shown."""
        return self.noise_filter(self.both, 2)

    def reference(self, half: int) -> Tensor:
        """The map (d, d, d) for the next search of a half set, written over the one without a filter."""
        return self.halves[half].copy_(self.noise_filter(self.halves[half], 1))


def regularise(
    solved: Solved, curve: Tensor, mask: Tensor, settings: EMSettings, ranks: Ranks
) -> Unfiltered:
    """Maps from the sums of the half sets, and a filter by the FSC (d // 2 + 1,) of their half maps in a mask (d, d, d).

    All are solved with hardly a prior and then filtered: within a particle smaller than the box neighbouring coefficients are one,
    and a prior per coefficient would only carry the pattern of their weights into the map.
    """
    halves, split = solved.sums, settings.split
    rows = ranks.each([lambda h=h: low_rows(halves[h], split) for h in (0, 1)], ranks.owners)
    common = [first + second for first, second in zip(*rows, strict=True)]
    mean = torch.stack(solved.weight).sum(0)
    low = torch.arange(len(mean), device=mean.device) < split

    def reference(half: int) -> Tensor:
        own = torch.where(low, mean, solved.weight[half])
        with sharing_low(halves[half], common, split):
            return solve_lightly(halves[half], own)

    merged = _merged(halves, ranks)
    pieces = [
        lambda: reference(0),
        lambda: reference(1),
        lambda: solve_lightly(merged),
        lambda: _places(solved.half_maps, curve, mask, settings),
    ]
    *made, both, places = ranks.each(pieces, at=(*ranks.owners, ranks.owners[1], -2))
    return Unfiltered(both, made, NoiseFilter(settings, curve, *places))


def without_noise(
    plain: Unfiltered, half_maps: Tensor, evaluation: Evaluation, settings: EMSettings, ranks: Ranks
) -> tuple[Tensor, list[Tensor], Tensor | None, Sharp]:
    """What an iteration shows and searches with: the map (d, d, d) of all particles, those of the half sets, the mask (d, d, d) that the first
    one makes, if any, and the map for the eye of half maps (2, d, d, d)."""
    (full, mask), *references, sharp = ranks.each(
        [
            lambda: masked_map(plain.full(), evaluation.reached, settings),
            lambda: plain.reference(0),
            lambda: plain.reference(1),
            lambda: for_the_eye(half_maps, evaluation, settings, plain.noise_filter.locally),
        ],
        at=(0, 1, -1, -2),
    )
    return full, references, mask, sharp


def _merged(halves: Halves, ranks: Ranks) -> Sums | None:
    """The sums of both half sets, where those of half set B are; elsewhere None."""
    here = halves.get(0, halves.get(1))
    given = [] if here is None else [here.numerator, here.weight]
    first = ranks.hand_over(given, *ranks.owners)
    if here is None or first is None:
        return None
    merged = replace(here, numerator=first[0], weight=first[1])
    merged += halves[1]
    return merged


def _places(
    half_maps: Tensor, curve: Tensor, mask: Tensor, settings: EMSettings
) -> tuple[Tensor | None, Tensor | None]:
    """Share and cutoff of a ``NoiseFilter``, by what half maps (2, d, d, d) have in common at each place."""
    pixel = settings.pixel_size
    if settings.nonuniform is not None:
        shape = _bank(settings) | {"weight": _shared_gain(curve, half_maps)}
        window = settings.nonuniform.window
        return None, local_cutoff(half_maps, pixel, window=window, **shape)
    return (signal_share(half_maps, pixel, curve, mask) if settings.local_wiener else None), None


def _bank(settings: EMSettings) -> dict:
    """The low-passes of the non-uniform filter."""
    assert settings.nonuniform is not None
    bank = filter_bank(settings.box, settings.pixel_size)
    return {
        "resolutions": bank,
        "kind": settings.nonuniform.kind,
        "order": settings.nonuniform.order,
    }


def _shared_gain(curve: Tensor, like: Tensor) -> Tensor:
    """The gain (d // 2 + 1,) that all places share: what is cut locally is only what is much worse than the average."""
    return fsc_weight(curve.to(like.device)).square()


def low_rows(half: Sums, split: float) -> list[Tensor]:
    """The rows (a, P, P // 2 + 1) of a half set's sums that may lie below the split shell: numerators and weights of both ends."""
    return [values[z] for z in _low(half, split) for values in (half.numerator, half.weight)]


def _low(half: Sums, split: float) -> tuple[slice, slice]:
    padded, width = len(half.weight), half.padding * math.ceil(max(split, 1))
    return slice(0, width), slice(max(width, padded - width), padded)


@contextmanager
def sharing_low(half: Sums, common: Sequence[Tensor], split: float) -> Iterator[None]:
    """A half set's sums with those of both below the split shell, as long as it lasts: what keeps the halves in one frame.

    One shell less, because windows and interpolation carry what is shared one shell further.

    Args:
        common: (a, P, P // 2 + 1) each, the sums of both half sets' ``low_rows``.
    """
    places = low_rows(half, split)
    own = [values.clone() for values in places]
    below = [half.shells(z) < split - 1 for z in _low(half, split) for _ in range(2)]
    for values, both, low in zip(places, common, below, strict=True):
        values.copy_(torch.where(low, both, values))  # only there
    yield
    for values, before in zip(places, own, strict=True):
        values.copy_(before)
