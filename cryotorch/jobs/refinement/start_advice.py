"""What the end of a refinement says about its start: another size, or another molecule, than that of the initial map."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.fourier.filters import filter_shells, radial_amplitude
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.masks.soft import mask_reach, soft_sphere
from cryotorch.ops.resolution.fsc import crossing_shell, shell_correlation
from cryotorch.ops.resolution.relative_size import relative_size
from cryotorch.refinement.settings import EMSettings
from cryotorch.results import IterationResult

COMPARED_BOX = 96  # voxels per edge that maps are compared in
AGREEING_CORRELATION = 0.5  # correlation
# What a map keeps, as the mean of three shells, of a right initial map in the shells that the search began with: 1.0 of a simulated one,
# 0.90 of apoferritin, whose shell has zeros; of a wrong one, whose wrong poses both half sets follow to a false resolution, 0.84.
MIN_KEPT, MEAN_SHELLS = 0.87, 3
MIN_GAIN = (
    0.03  # share of the sum over the shells that is gained at another size: true sizes gain 0.01
)
FILTERED_AMPLITUDE = 0.1  # of the amplitude of the final map, in units of that where it is largest
DETAIL_PER_RADIUS = (
    4.0  # times finer than the radius: coarser maps agree best at a size that their filter makes
)
MIN_SIZE_CHANGE = 0.025  # from 1, where a factor counts: 1 % either way is the error of one


@dataclass(frozen=True)
class Beginning:
    """What a refinement began with.

    Attributes:
        volume: (d, d, d) the initial map in a box of at most ``COMPARED_BOX``, None = do not compare.
        first: the last shell of it that the first iteration saw.
        warnings: what was said about it, to be repeated at the end.
    """

    volume: Tensor | None = None
    first: float = 0.0
    warnings: list[Finding] = field(default_factory=list)


NOTHING = Beginning()


def began_with(volume: Tensor, settings: EMSettings, warnings: list[Finding]) -> Beginning:
    """A run's, from the initial map (d, d, d); those of a local search (2, d, d, d) are not compared."""
    if volume.dim() > 3:
        return Beginning(warnings=warnings)
    small = resize_volume(volume.cpu(), min(len(volume), COMPARED_BOX))
    return Beginning(small, settings.schedule.first_limit, warnings)


def initial_map_advice(result: IterationResult, start: Beginning, shell: int) -> list[Finding]:
    """Whether the map has another size than the initial one, or little in common with it.

    ``shell``: that is claimed. In a sphere, as masks agree where maps need not.
    """
    if start.volume is None:
        return []
    box = len(start.volume)
    part = box / result.map.shape[-1]
    radius = min(mask_reach(result.mask_fsc, 0.5) * part, 0.45 * box)
    sphere = soft_sphere(box, radius, 0.05 * box)
    last = min(shell, box // 2 - 1)
    small = resize_volume(result.map, box)
    sizes = relative_size(small, start.volume, sphere, last)
    as_is, best = (float(curve[1 : last + 1].sum()) for curve in (sizes.as_is, sizes.best))
    edge = result.map.shape[-1] * result.pixel_size
    seen = min(int(start.first), _filled(start.volume * sphere, small * sphere))
    shell_reached = crossing_shell(sizes.best, AGREEING_CORRELATION)
    fine = max(seen, DETAIL_PER_RADIUS * box / radius)
    if (
        best > (1 + MIN_GAIN) * as_is
        and abs(sizes.factor - 1) > MIN_SIZE_CHANGE
        and shell_reached >= fine
    ):
        return [Finding("other_size", factor=sizes.factor)]
    alike = shell_correlation(_filtered_like(small, start.volume) * sphere, start.volume * sphere)
    shell_reached = max(1, int(crossing_shell(_running_mean(alike), MIN_KEPT)))
    if shell_reached >= seen:
        return []
    return [Finding("other_map", resolution=edge / shell_reached, first=edge / seen)]


def _running_mean(curve: Tensor) -> Tensor:
    """Of each shell and the two before it; of those that there are at the beginning."""
    padded = torch.cat([curve.new_ones(MEAN_SHELLS - 1), curve])
    return padded.unfold(0, MEAN_SHELLS, 1).mean(1)


def _filtered_like(volume: Tensor, other: Tensor) -> Tensor:
    """A map with the mean amplitude per shell of another: a sphere cuts the blur of both alike."""
    gain = radial_amplitude(other) / radial_amplitude(volume).clamp_min(1e-30)
    return filter_shells(volume, gain)


def _filled(volume: Tensor, like: Tensor) -> int:
    """The last shell before the one in which a map has next to nothing of the power of another: there a filter has ended it."""
    ratio = radial_amplitude(volume)[1:] / radial_amplitude(like)[1:].clamp_min(1e-30)
    low = torch.nonzero(ratio < FILTERED_AMPLITUDE * ratio.max())
    return int(low[0]) if len(low) else len(ratio)
