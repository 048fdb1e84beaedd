"""Tightening the mask of an FSC: as tight as improves the corrected curve without a bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.masks.soft import distance_transform, edge_in_box
from cryotorch.ops.resolution.fsc import (
    NEXT_TO_ONSET,
    correct_for_mask,
    crossing_shell,
    phase_randomise,
    shell_correlation,
)

SHRINKING = 0.7  # of near and of the edge from one mask to the next: 25/40 Å is 6/10 Å in four
MAX_MASKS = 8  # masks looked at, the first included
# The smallest near and edge (pixels, resolutions): density reaches about half a resolution beyond
# the surface at half its height, and a narrower edge carries it into finer shells.
MIN_NEAR = (1.0, 0.5)
MIN_EDGE = (3.0, 1.0)
MIN_DENSITY_KEPT = 0.9  # of the density that the half maps share in the first mask
MAX_LEAK = 0.05  # randomised FSC in the shells gained
# The part of the signal that the mask's own transform may explain: about 0.9 where a soft sphere is
# all that the half maps share, up to 0.4 for a protein at 12 to 20 Å, below 0.2 at higher resolution.
MAX_OUTLINE = 0.4
MIN_RISE_ERRORS = 3.0  # standard errors by which the signal-to-noise ratio must have risen
MIN_SHELLS = 3  # shells to judge that by
FSC_MARGIN = 0.02  # FSC is taken to be at least this far from 0 and 1 in ratios of signal to noise


class Candidate(NamedTuple):
    """A mask that was looked at.

    Attributes:
        near, far: Å.
        resolution: Å, of the last shell before the corrected curve falls below 0.143.
        randomised: the FSC of the maps with random phases in that shell.
        fraction: of the box that the mask covers.
        accepted: whether it was better than those before (the first one: is).
    """

    near: float
    far: float
    resolution: float
    randomised: float
    fraction: float
    accepted: bool


class Tightened(NamedTuple):
    """mask (d, d, d) float32, near and far in Å, the candidates in order, and why it ended there."""

    mask: Tensor
    near: float
    far: float
    candidates: list[Candidate]
    reason: Finding


def tighten(
    half_maps: Tensor,
    pixel_size: float,
    region: Tensor,
    first_shell: int,
    near: float,
    far: float,
    generator: torch.Generator | None = None,
    watch: Callable[[Candidate], None] = lambda candidate: None,
    no_mask: Tensor | None = None,
) -> Tightened:
    """The mask around a region (d, d, d) bool that serves the FSC of half maps (2, d, d, d) best.

    Masks are tried from ``near`` and ``far`` Å inwards, with phases randomised once from
    ``first_shell`` on (without a generator those of seed 0, as in ``fsc_curves``). A mask replaces
    the best so far where the resolution of its corrected curve is finer by a shell and by 2 %, and

    - the ratio of signal to noise rises in the shells that both masks resolve, by 3 standard errors
      and more than in the mask before. Shells that would be gained do not vote: picking the best of
      several curves there picks upward fluctuations;
    - the shells gained owe little to leaks: their randomised FSC is at most 0.05;
    - the mask's own transform explains little of the signal, so that it is structure and not the
      outline of the particle that correlates;
    - it keeps 90 % of the density that the half maps share.

    With fewer than 3 shells between those next to the onset and the resolution, as in half maps of
    noise, nothing can be judged and the first mask stays; also where it reaches Nyquist. ``watch``
    is told each candidate when it is judged; ``no_mask`` (s,), the FSC without a mask, is computed when not given. ValueError for an empty region or lengths out of order.
    """
    if not 0 <= near <= far:
        raise ValueError(f"A mask needs 0 <= near <= far, got near {near:g} and far {far:g}.")
    if not region.any():
        raise ValueError("The region to tighten a mask around is empty.")
    maps = _Maps(half_maps, pixel_size, region, first_shell, far, generator, no_mask)
    best = maps.look(near, far)
    least, rise = MIN_DENSITY_KEPT * best.shared, 0.0
    candidates = [best.candidate(True)]
    watch(candidates[-1])
    while True:
        reason = _nothing_to_gain(best, first_shell) or _enough(len(candidates))
        following = _tighter(near, far, best.resolution, pixel_size)
        if reason is not None or following is None:
            break
        near, far = following
        new = maps.look(near, far)
        gain, error = _gain(best, new, first_shell)
        if new.shared < least:
            reason = remark("tighter_loses_density", far=far, most=1 - MIN_DENSITY_KEPT)
        elif gain < rise:
            reason = remark("tighter_loses_signal", far=far)
        better = (
            reason is None
            and new.shell >= best.shell + max(1, round(0.02 * best.shell))
            and gain > MIN_RISE_ERRORS * error
            and _leak(best, new) <= MAX_LEAK
            and maps.outline(best, new) <= MAX_OUTLINE
        )
        candidates.append(new.candidate(better))
        watch(candidates[-1])
        if reason is not None:
            break
        rise = 0.0 if better else gain
        best = new if better else best
    if reason is None:
        reason = remark("tighter_too_sharp", far=far, resolution=best.resolution)
    return Tightened(best.mask, best.near, best.far, candidates, reason)


class _Look(NamedTuple):
    """A mask with its curves (s,).

    independent: part of a shell's coefficients that stay independent under the mask. shared: sum of the product of
    the half maps in the mask, the density that both have.
    """

    near: float
    far: float
    mask: Tensor
    corrected: Tensor
    randomised: Tensor
    shell: int
    resolution: float
    independent: float
    shared: float

    def candidate(self, accepted: bool) -> Candidate:
        randomised, fraction = float(self.randomised[self.shell]), float(self.mask.mean())
        return Candidate(self.near, self.far, self.resolution, randomised, fraction, accepted)

    def coefficients(self, shells: Tensor) -> Tensor:
        """Independent coefficients per shell, Friedel mates counted both."""
        return 4 * math.pi * shells.double().square() * self.independent


class _Maps:
    """What all masks share: half maps, the same with random phases, and the distance from the region."""

    def __init__(
        self,
        half_maps: Tensor,
        pixel_size: float,
        region: Tensor,
        first_shell: int,
        far: float,
        generator: torch.Generator | None,
        no_mask: Tensor | None,
    ) -> None:
        generator = generator or torch.Generator().manual_seed(0)
        self._half_maps, self._pixel_size, self._first_shell = half_maps, pixel_size, first_shell
        self._unmasked = shell_correlation(*half_maps) if no_mask is None else no_mask
        self._randomised = phase_randomise(half_maps, first_shell, generator)
        self._distance = distance_transform(region, max(far / pixel_size, 1.0))

    def look(self, near: float, far: float) -> _Look:
        px, (first, second) = self._pixel_size, self._half_maps
        mask = edge_in_box(self._distance, near / px, far / px)
        masked = shell_correlation(first * mask, second * mask)
        randomised = shell_correlation(*(volume * mask for volume in self._randomised))
        curve = correct_for_mask(masked, randomised, self._first_shell, self._unmasked)
        shell = int(crossing_shell(curve))
        # noise of variance 1 under the mask has the variance m^2: (sum m^2)^2 / sum m^4 voxels' worth
        square = mask.square()
        total, spread = _sum(square), _sum(square.square())
        independent = total**2 / max(spread, 1e-30) / mask.numel()
        # without what the solvent is above zero
        solvent = 1 - mask
        voxels = max(_sum(solvent), 1.0)
        levels = [_sum(half * solvent) / voxels for half in self._half_maps]
        shared = _sum((first - levels[0]).mul_(second - levels[1]).mul_(mask))
        resolution = len(mask) * px / shell
        return _Look(near, far, mask, curve, randomised, shell, resolution, independent, shared)

    def outline(self, best: _Look, new: _Look) -> float:
        """How much of the signal in a mask its own transform explains, the larger of two bands of shells.

        Per shell, the squared multiple correlation of the masked mean map with the mask m and with m^2 (whose
        outline lies further inside), less what chance gives, as a part of the signal's share 2 F / (1 + F). The
        bands: the shells gained, and all behind the onset.
        """
        mask, square = new.mask, new.mask.square()
        signal = self._half_maps.mean(0).mul_(mask)
        a, b = shell_correlation(mask, signal), shell_correlation(square, signal)
        c = shell_correlation(mask, square).clamp(-0.999, 0.999)
        shells = torch.arange(len(a), device=a.device).clamp(min=1)
        explained = (a * a + b * b - 2 * a * b * c) / (1 - c * c) - 2 / new.coefficients(shells)
        curve = new.corrected.clamp(FSC_MARGIN, 1)
        signal_share = 2 * curve / (1 + curve)
        starts = (self._first_shell + NEXT_TO_ONSET, best.shell + 1)
        bands = [slice(start, new.shell + 1) for start in starts]
        return max(float(explained[band].sum() / signal_share[band].sum()) for band in bands)


def _sum(values: Tensor) -> float:
    return float(values.sum(dtype=torch.float64))


def _nothing_to_gain(best: _Look, first_shell: int) -> Finding | None:
    if best.shell >= len(best.corrected) - 1:
        return remark("tightening_at_nyquist")
    if best.shell - first_shell - NEXT_TO_ONSET + 1 < MIN_SHELLS or first_shell < 2:
        begins = best.resolution * best.shell / max(first_shell, 1)
        return remark("tightening_untold", begin=begins, resolution=best.resolution)
    return None


def _enough(tried: int) -> Finding | None:
    return remark("tightening_tried", masks=MAX_MASKS) if tried >= MAX_MASKS else None


def _tighter(
    near: float, far: float, resolution: float, pixel_size: float
) -> tuple[float, float] | None:
    """The next (near, far) in Å; None where the smallest near and edge leave nothing to shrink."""
    smallest = [
        max(pixels * pixel_size, part * resolution) for pixels, part in (MIN_NEAR, MIN_EDGE)
    ]
    tighter = min(near, max(SHRINKING * near, smallest[0]))
    end = tighter + max(SHRINKING * (far - near), smallest[1])
    # half a pixel at mid edge, or the mask is the same
    return (tighter, end) if tighter + end < near + far - pixel_size else None


def _gain(best: _Look, new: _Look, first_shell: int) -> tuple[float, float]:
    """Rise of log(signal / noise) = log(F / (1 - F)) from one mask to another, and its standard error.

    The weighted mean over the shells behind the onset that the first mask resolves; a shell of n independent
    coefficients has the variance ((1 + F) / F)^2 / n, more where the correction divides by less.
    """
    shells = torch.arange(first_shell + NEXT_TO_ONSET, best.shell + 1, device=best.corrected.device)
    before, after = (
        look.corrected[shells].clamp(FSC_MARGIN, 1 - FSC_MARGIN) for look in (best, new)
    )
    rest = (1 - new.randomised[shells]).clamp(0, 1)
    weight = new.coefficients(shells) * (rest * after / (1 + after)).square()
    gain = (weight * (after.logit() - before.logit())).sum() / weight.sum()
    return float(gain), float(weight.sum().rsqrt())


def _leak(best: _Look, new: _Look) -> float:
    """Mean randomised FSC of the shells gained, less its standard error."""
    shells = torch.arange(best.shell + 1, new.shell + 1, device=new.randomised.device)
    return float(new.randomised[shells].mean() - new.coefficients(shells).sum().rsqrt())
