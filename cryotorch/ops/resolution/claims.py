"""The one judge of half maps: their curves under a mask, what noise alone would reach, and the resolution that may be claimed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.host import to_host
from cryotorch.ops.resolution.fsc import (
    NEXT_TO_ONSET,
    THRESHOLD,
    claimed_shell,
    crossing_shell,
    first_randomised_shell,
    fsc_curves,
    resolution,
    shell_correlation,
    shown_together,
)
from cryotorch.ops.resolution.significance import independent_numbers, noise_band, noise_profile

BLIND = 0.8  # FSC of random phases that only a few voxels, or a spike in the middle, make


class Background(NamedTuple):
    """What a run knows about its half maps.

    Attributes:
        group: (g, 3, 3) point group that was imposed, None = C1.
        shared: shell up to which both half sets were aligned to the same reference, 0 = not at all.
        inserted: shell up to which images were inserted.
        symmetry: the group's name.
        earlier: what the runs that made them doubt.
    """

    group: Tensor | None = None
    shared: float = 0.0
    inserted: float = math.inf
    symmetry: str = "C1"
    earlier: tuple[Finding, ...] = ()


UNKNOWN = Background()


class Judged(NamedTuple):
    """Curves (d//2 + 1,) by name, on the maps' device.

    Attributes:
        band: (d//2 + 1,) what noise in the mask stays below, see ``significance.noise_band``.
        onset: first shell with random phases.
        shell: that the corrected curve may be said to reach, None = nothing to claim.
        resolutions: name -> Å where the curve falls below 0.143, "corrected" what is claimed; all NaN where that is nothing.
    """

    curves: dict[str, Tensor]
    band: Tensor
    onset: int
    shell: int | None
    resolutions: dict[str, float]

    @property
    def last(self) -> int:
        """The shell claimed, or where nothing can be the one before the corrected curve falls below 0.143."""
        return int(crossing_shell(self.curves["corrected"])) if self.shell is None else self.shell

    @property
    def resolution(self) -> float:
        """Å that may be claimed, or NaN."""
        return self.resolutions["corrected"]

    @property
    def ended_by(self) -> str:
        """What ends the corrected curve after the shell that is claimed, see ``ended_by``; "" where nothing can be claimed."""
        if self.shell is None:
            return ""
        return ended_by(self.curves["corrected"], self.shell)


THRESHOLD_ENDS, NOISE_ENDS, NYQUIST_ENDS, LIMIT_ENDS = "threshold", "noise", "nyquist", "limit"
# As a remark beside a resolution.
ENDED = {
    THRESHOLD_ENDS: f"corrected FSC = {THRESHOLD:g}",
    NOISE_ENDS: "beyond it the corrected FSC lies within noise, 3 standard errors",
    LIMIT_ENDS: "at least that: images were used no further",
    NYQUIST_ENDS: f"the corrected FSC never falls below {THRESHOLD:g}, the pixel size is the limit",
}


def ended_by(curve: Tensor, shell: int, threshold: float = THRESHOLD) -> str:
    """Whether the threshold, noise, Nyquist or the limit up to which images were used ends a curve (s,) that may be said to reach a shell, see ``fsc.claimed_shell``.

    A curve that is still above the threshold in the next shell has been ended by the band of noise. The last shell is Nyquist's. Where
    no image was used, a curve is zero.
    """
    last = len(curve) - 1
    if shell < last and not bool(curve[shell + 1 :].any()):
        return LIMIT_ENDS
    above = float(curve[min(shell + 1, last)]) >= threshold
    if not above:
        return THRESHOLD_ENDS
    return NYQUIST_ENDS if shell >= last else NOISE_ENDS


def judge(
    half_maps: Tensor,
    pixel_size: float,
    mask: Tensor,
    loose: Tensor | None = None,
    known: Background = UNKNOWN,
    onset: int | None = None,
    seed: int = 0,
    no_mask: Tensor | None = None,
) -> Judged:
    """Judge half maps (2, d, d, d) under a mask (d, d, d): every job gets the same numbers for the same maps and mask.

    Args:
        loose: (d, d, d) mask of the loose curve, None = there is none.
        onset: first shell with random phases, None = where the unmasked FSC falls below 0.8 beyond what is shared; seed: of the phases.
        no_mask: (d // 2 + 1,) the FSC without a mask, where it is known already.
    """
    draw = torch.Generator().manual_seed(seed)
    another = mask if loose is None else loose
    if no_mask is None:
        no_mask = shell_correlation(*half_maps)
    if onset is None:
        onset = first_randomised_shell(no_mask, shared=known.shared)
    curves = fsc_curves(
        half_maps, pixel_size, mask, another, generator=draw, first_shell=onset, no_mask=no_mask
    )
    if loose is None:
        del curves["loose"]
    numbers = mask_numbers(half_maps, mask, known)
    return conclude(curves, numbers, pixel_size, known, onset)


def mask_numbers(half_maps: Tensor, mask: Tensor, known: Background = UNKNOWN) -> Tensor:
    """Independent numbers per shell (2, d // 2 + 1) of the noise of half maps (2, d, d, d), under a mask (d, d, d) and without one."""
    profile = noise_profile(half_maps)
    under = (mask, torch.ones_like(mask))
    return torch.stack([independent_numbers(one, known.group, profile) for one in under])


def conclude(
    curves: dict[str, Tensor],
    numbers: Tensor,
    pixel_size: float,
    known: Background,
    onset: int,
) -> Judged:
    """What ``judge`` says by the curves of ``fsc_curves``, each (s,), from ``onset`` on with random phases, and the ``mask_numbers`` (2, s)."""
    box = 2 * (numbers.shape[-1] - 1)
    curves = dict(zip(curves, to_host(list(curves.values())), strict=True))
    curves = {name: _where_inserted(curve, known.inserted) for name, curve in curves.items()}
    band, free = noise_band(numbers)
    testing = _where_tested(band, curves["randomised"], onset)
    shell = claimed_shell(curves["corrected"], testing, known.shared)
    # without the mask too, which was made where the half maps agree, and was on the references that both were aligned to
    if shell is not None and known.shared:
        if not shown_together(curves["no_mask"], free, known.shared, shell):
            shell = None
    reached = {n: resolution(c, box, pixel_size) for n, c in curves.items() if n != "randomised"}
    reached = (
        unclaimed(reached) if shell is None else reached | {"corrected": box * pixel_size / shell}
    )
    return Judged(curves, band, onset, shell, reached)


def unclaimed(resolutions: Mapping[str, float]) -> dict[str, float]:
    """Resolutions by name where nothing may be claimed: NaN, as one of a single curve would be taken for a claim."""
    return dict.fromkeys(resolutions, math.nan)


def _where_tested(band: Tensor, randomised: Tensor, onset: int) -> Tensor:
    """The band of noise (s,), 1 where nothing but the mask is seen: random phases (s,) from the shell ``onset`` on agree nearly as well.

    The corrected curve, (masked - randomised) / (1 - randomised), is a ratio of two small differences there.
    """
    shell = torch.arange(len(band), device=band.device)
    blind = (randomised.to(band) > BLIND) & (shell >= onset + NEXT_TO_ONSET)
    return torch.where(blind, torch.ones_like(band), band)


def _where_inserted(curve: Tensor, limit: float) -> Tensor:
    """Zero on shells that no image was inserted into: what a mask finds there has leaked from the others, alike in both halves."""
    if limit >= len(curve) - 1:
        return curve
    shell = torch.arange(len(curve), device=curve.device)
    return torch.where(shell <= limit - 0.5, curve, torch.zeros_like(curve))
