"""Fourier shell correlation: curves, the correction for the mask, and the resolution."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from cryotorch.ops.fourier.transforms import shell_sum, slabs, volume_shells
from cryotorch.ops.host import to_device
from cryotorch.ops.masks.soft import density_mask, grow_in_box, soft_sphere
from cryotorch.ops.resolution.significance import ERRORS

THRESHOLD = 0.143  # FSC of half maps at the resolution (doi:10.1016/j.jmb.2003.07.013)
RANDOMISE_BELOW = 0.8  # unmasked FSC from which on phases are randomised (RELION's choice)
LOOSER = (10.0, 25.0)  # Å around a given tight mask: where the loose one begins and ends to fall
NEXT_TO_ONSET = 2  # shells that carry an artefact of the abrupt change
FEW_NUMBERS = 0.5  # band of noise above which a shell cannot testify against
# five numbers: as many as the pose of a single image, and noise whose peaks are aligned agrees in them to 0.99 (32 pixels, I)
NO_NUMBERS = 0.95
# Refined noise reached 7.9 in the corrected curve and 9.2 in that without a mask, but 5.5 in both (32 pixels, C1 to I, 330 iterations); sound
# maps of tests/truth are at 8.5 or more in both, while they are coarsest.
JOINT = 7.5
NEXT_TO_SPLIT = (
    3  # shells that what half sets share leaks on to, through windows, masks and interpolation
)


def shell_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Fourier shell correlation of volumes (*b, d, d, d): (*b, d//2 + 1), float64.

        FSC(s) = Re sum F1 F2* / sqrt( sum |F1|^2  sum |F2|^2 )       sums over shell s

    Shell 0 is set to 1; shells without power are 0.
    """
    pairs = zip(a[None].flatten(0, -4), b[None].flatten(0, -4), strict=True)
    curves = [_correlate(_transform(first), _transform(second)) for first, second in pairs]
    return torch.stack(curves).reshape(*a.shape[:-3], -1)


def _transform(volume: Tensor) -> Tensor:
    """About pixel 0: the phases that the origin makes cancel in a correlation."""
    return torch.fft.rfftn(volume, dim=(-3, -2, -1))


def masked_correlation(half_maps: Iterable[Tensor], mask: Tensor) -> Tensor:
    """The FSC (s,) of two volumes (d, d, d) under a mask, the two one after the other."""
    return _correlate(*(_transform(half * mask) for half in half_maps))


def _correlate(first: Tensor, second: Tensor) -> Tensor:
    """The FSC (s,) of two transforms (d, d, d // 2 + 1)."""
    box, row = len(first), 0
    sums = torch.zeros(3, box // 2 + 1, dtype=torch.float64, device=first.device)
    for a, b in zip(slabs(first), slabs(second), strict=True):
        for total, (u, v) in zip(sums, ((a, b), (a, a), (b, b)), strict=True):
            total += shell_sum(_real_product(u, v), box, row)
        row += len(a)
    cross, power = sums[0], sums[1] * sums[2]
    curve = torch.where(power > 0, cross / power.sqrt().clamp(min=1e-300), 0.0)
    curve[0] = 1
    return curve


def _real_product(a: Tensor, b: Tensor) -> Tensor:
    """Re(a b*)."""
    return torch.addcmul(a.real * b.real, a.imag, b.imag)


def phase_randomise(volume: Tensor, first_shell: int, generator: torch.Generator) -> Tensor:
    """A volume (*b, d, d, d) with random phases from shell ``first_shell`` on; amplitudes are kept.

    The phases added are multiples of 2 pi / 256 with the symmetry of a real volume. They are drawn on the generator's
    device, so that all devices see the same: a byte each, which takes a CPU little time and is soon elsewhere.
    """
    box, one_by_one = volume.shape[-1], volume[None].flatten(0, -4)
    made = [_randomised(_transform(v), first_shell, generator, box) for v in one_by_one]
    return torch.stack(made).reshape(volume.shape) if volume.dim() > 3 else made[0]


def _randomised(
    transform: Tensor, first_shell: int, generator: torch.Generator, box: int
) -> Tensor:
    """``phase_randomise`` from a transform, which is overwritten."""
    turn = to_device(_random_turns(box, generator), transform.device)
    turn.masked_fill_(volume_shells(box, turn.device) < max(first_shell, 1), 0)
    angle = torch.arange(256, dtype=torch.float64, device=turn.device) * (2 * math.pi / 256)
    phase = torch.polar(torch.ones_like(angle), angle).to(transform.dtype)
    for part, at in zip(slabs(transform), slabs(turn), strict=True):
        part *= phase.index_select(0, at.flatten().int()).view(part.shape)
    # irfftn in two steps: the product goes before the result comes
    transform = torch.fft.ifftn(transform, dim=(0, 1))
    return torch.fft.irfft(transform, n=box)


def _random_turns(box: int, generator: torch.Generator) -> Tensor:
    """Random phases (d, d, d // 2 + 1) uint8, in units of 2 pi / 256, that are opposite at k and -k."""
    shape = box, box, box // 2 + 1
    n, device = math.prod(shape), generator.device
    eight = torch.randint(-(2**63), 2**63 - 1, (n // 8 + 1,), generator=generator, device=device)
    turn = eight.view(torch.uint8)[:n].view(shape)
    for column in {0, box // 2} if box % 2 == 0 else {0}:  # where both are in the half transform
        plane = turn[:, :, column]
        plane -= plane.flip(0, 1).roll((1, 1), (0, 1))
    return turn


def corrected_fsc(
    half_maps: Tensor,
    mask: Tensor,
    first_shell: int,
    generator: torch.Generator,
    unmasked: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The FSC of masked half maps (2, d, d, d) without what the mask itself correlates.

        corrected = (masked - randomised) / (1 - randomised)      from first_shell on, masked before

    where ``randomised`` is the FSC of the half maps with phases randomised from ``first_shell``
    on, masked afterwards; see ``correct_for_mask``. ``unmasked`` is computed when not given.
    Returns (corrected, masked, randomised), each (d//2 + 1,).
    """
    masked = masked_correlation(half_maps, mask)
    randomised = randomised_curve(half_maps, mask, first_shell, generator)
    if unmasked is None:
        unmasked = shell_correlation(*half_maps)
    corrected = correct_for_mask(masked, randomised, first_shell, unmasked)
    return corrected, masked, randomised


def correct_for_mask(
    masked: Tensor, randomised: Tensor, first_shell: int, unmasked: Tensor
) -> Tensor:
    """The corrected FSC (s,) from the masked, the phase-randomised and the unmasked one, each (s,).

        corrected = (masked - randomised) / (1 - randomised)      from first_shell on, masked before

    and 0 where ``randomised`` leaves nothing to divide by. In the two shells next to the onset,
    where true signal still leaks into the randomised maps and the correction overdoes it, the value
    is not below the unmasked FSC. Chen et al. 2013, doi:10.1016/j.ultramic.2013.06.004.
    """
    rest = 1 - randomised
    corrected = torch.where(rest > 1e-3, (masked - randomised) / rest.clamp(min=1e-3), 0.0).clamp(
        -1, 1
    )
    corrected[:first_shell] = masked[:first_shell]
    onset = slice(first_shell, first_shell + NEXT_TO_ONSET)
    # the masked value itself would let a mask's leak from shared low shells pass for resolution
    corrected[onset] = torch.maximum(
        corrected[onset], torch.minimum(unmasked[onset], masked[onset])
    )
    return corrected


def loose_mask(volume: Tensor, pixel_size: float, given: Tensor | None = None) -> Tensor:
    """The mask (d, d, d) of the loose curve: around the density of a map (d, d, d), or around a ``given`` tight mask.

    Density above half the 99.99th percentile, grown by 25 Å, soft to 40 Å; ValueError where there is none.
    """
    if given is not None:
        lengths = (length / pixel_size for length in LOOSER)
        return grow_in_box(given.to(volume.device) > 0.5, *lengths)[0]
    return density_mask(volume, pixel_size, 0.5, near=25.0, far=40.0, low_pass=20.0)


def fsc_curves(
    half_maps: Tensor,
    pixel_size: float,
    mask: Tensor,
    loose: Tensor | None = None,
    generator: torch.Generator | None = None,
    randomize_below: float = RANDOMISE_BELOW,
    first_shell: int | None = None,
    no_mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """The curves of ``cryotorch.results.CURVES``, each (d//2 + 1,), of two half maps (2, d, d, d).

    no_mask; spherical: a soft sphere from 0.85 to 1 of half the box; loose: the mask given, or
    ``loose_mask``; tight: ``mask``;
    corrected and randomised: ``mask`` with phases randomised from the first shell on whose unmasked
    FSC falls below ``randomize_below`` after having been above, or from ``first_shell`` on. Without
    a generator the random phases are those of seed 0: the same maps give the same curves. ``no_mask`` is computed when not given.
    """
    if loose is None:
        loose = loose_mask(half_maps.mean(0), pixel_size)
    if no_mask is None:
        no_mask = shell_correlation(*half_maps)
    if first_shell is None:
        first_shell = first_randomised_shell(no_mask, randomize_below)
    made = {
        "randomised": randomised_curve(half_maps, mask, first_shell, generator),
        "tight": masked_correlation(half_maps, mask),
        "loose": masked_correlation(half_maps, loose),
        "spherical": spherical_curve(half_maps),
    }
    return with_corrected(made, no_mask, first_shell)


def randomised_curve(
    half_maps: Tensor,
    mask: Tensor,
    first_shell: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The FSC (s,) of half maps (2, d, d, d) with random phases from a shell on, those of seed 0 without a generator, masked afterwards."""
    draw = generator or torch.Generator().manual_seed(0)
    changed = (phase_randomise(half, first_shell, draw) for half in half_maps)
    return masked_correlation(changed, mask)


def spherical_curve(half_maps: Tensor) -> Tensor:
    """The FSC (s,) of half maps (2, d, d, d) in a soft sphere from 0.85 to 1 of half the box."""
    box = half_maps.shape[-1]
    sphere = soft_sphere(box, 0.85 * box / 2, 0.15 * box / 2, half_maps.device)
    return masked_correlation(half_maps, sphere)


def with_corrected(
    made: Mapping[str, Tensor], no_mask: Tensor, first_shell: int
) -> dict[str, Tensor]:
    """The curves of ``cryotorch.results.CURVES`` in their order, from those that need a mask and the one without, each (s,)."""
    tight, randomised = made["tight"], made["randomised"]
    return {
        "no_mask": no_mask,
        "spherical": made["spherical"],
        "loose": made["loose"],
        "tight": tight,
        "corrected": correct_for_mask(tight, randomised, first_shell, no_mask),
        "randomised": randomised,
    }


def first_randomised_shell(
    no_mask: Tensor, below: float = RANDOMISE_BELOW, shared: float = 0.0
) -> int:
    """The first shell of an unmasked FSC (s,) that falls below a value after having been above, and beyond ``shared``; s if none.

    What leaks through the mask from shells that agree would pass for resolution if their own phases were randomised, and with them
    what leaks: at a dip in shell 1, which the images' window makes, and wherever half sets agree as they were aligned to one reference.
    """
    no_mask = no_mask.cpu()
    high = torch.nonzero(no_mask[1:] >= below)
    start = int(high[0]) + 1 if len(high) else 0
    onset = start + _first_below(no_mask[start:], below)
    return min(max(onset, int(shared) + 1), len(no_mask))


def _first_below(curve: Tensor, threshold: float) -> int:
    """The first shell after 0 with a value below a threshold or not a number; s if none."""
    below = torch.nonzero(~(curve[1:] >= threshold))
    return int(below[0]) + 1 if len(below) else len(curve)


def crossing_shell(curve: Tensor, threshold: float = THRESHOLD, interpolate: bool = False) -> float:
    """The shell that a curve (s,) reaches: the last one before the first value below ``threshold``.

    With ``interpolate`` the straight line between that shell and the next is followed down to the
    threshold. At least 1; the last shell where the curve never falls below.
    """
    curve = curve.cpu()
    first = _first_below(curve, threshold)
    if not interpolate or first == len(curve):
        return float(max(first - 1, 1))
    above, below = float(curve[first - 1]), float(curve[first])
    step = (above - threshold) / (above - below) if math.isfinite(below) else 0.0
    return max(first - 1 + step, 1.0)


def claimed_shell(
    curve: Tensor, band: Tensor, shared: float = 0.0, threshold: float = THRESHOLD
) -> int | None:
    """The shell that half maps with this FSC (s,) may be said to resolve; None where noise explains the curve.

    The last one before the first value below ``threshold`` or in the band of noise (s,), see ``significance.noise_band``. Shells
    whose band is above 0.5 hold too few numbers to end a curve, or to be claimed while in it, and above 0.95 to be claimed at all. The shell must lie 3 beyond ``shared``,
    up to which the half sets had a common reference: what they were both aligned to, they have in common. And the shells from there
    on must show it together, see ``shown_together``.
    """
    band = band.to(curve)
    end = _first_below(
        curve - torch.where(band > FEW_NUMBERS, threshold, band.clamp(min=threshold)), 0.0
    )
    sure = torch.nonzero((curve >= band)[1:end] & (band <= NO_NUMBERS)[1:end])
    last = int(sure[-1]) + 1 if len(sure) else 0
    if not last or (shared and last < shared + NEXT_TO_SPLIT):
        return None
    return last if shown_together(curve, band, shared, last) else None


def shown_together(curve: Tensor, band: Tensor, shared: float, last: int) -> bool:
    """Whether the shells of an FSC (s,) beyond ``shared`` and up to ``last`` show together what no noise does, ``JOINT`` standard errors.

    By Stouffer's sum of Fisher's z, in units of the band of noise (s,). Noise that was refined against one reference leans to agree in
    every shell, not enough in any, and with few numbers each shell may pass for more. Where nothing is shared there is nothing to show.
    """
    if not shared:
        return True
    known = slice(int(shared) + 2, last + 1)
    seen = band[known] < 1
    noise = band[known][seen].clamp_min(1e-6)
    z = ERRORS * curve[known][seen].clamp(-0.999, 0.999).atanh() / noise.atanh()
    return float(z.sum()) >= JOINT * len(z) ** 0.5


def resolution(
    curve: Tensor,
    box: int,
    pixel_size: float,
    threshold: float = THRESHOLD,
    interpolate: bool = False,
) -> float:
    """Resolution in Å of a curve (s,): box * pixel_size / ``crossing_shell``, at best Nyquist."""
    return box * pixel_size / crossing_shell(curve, threshold, interpolate)
